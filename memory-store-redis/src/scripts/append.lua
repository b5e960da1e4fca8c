-- KEYS: memory, lease, fences. ARGV 4...: owner, token, writer, number, TTL in microseconds or empty, name
-- of the memory, how many classes, then of each its name, messages and tokens, then of each message
-- its meta and text. Returns {'A', first, counters} or {'D', first or empty, counters}, or a refusal.
local owner, token, writer, number, ttl = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local stored = redis.call('HMGET', key, 'h', 'w' .. writer)
local head, begins, leftover = open_to_write(stored[1], KEYS[3], ARGV[9])
local first = not begins and earlier(stored[2], number)
if first then
  if confirms then
    redis.call('HSET', key, 'h', stored[1])
  end
  return report({'D', first}, head)
end
local fence, refusal = admit(KEYS[2], owner, token, head.fence)
if not fence then
  return refusal
end
-- Not otherwise: after any write a script is let past `maxmemory`.
if leftover then
  redis.call('UNLINK', key)
end

first = head.last + 1
local at, classes = 11, tonumber(ARGV[10])
for _ = 1, classes do
  local messages, tokens = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  count(head, ARGV[at], messages, tokens)
  head.appended = head.appended + messages
  at = at + 3
end
local fields, n, last = {}, 0, head.last
for meta = at, #ARGV, 2 do
  last = last + 1
  fields[n + 1] = 'm' .. last
  fields[n + 2] = ARGV[meta]
  fields[n + 3] = 'b' .. last
  fields[n + 4] = ARGV[meta + 1]
  n = n + 4
  if n >= CHUNK then
    redis.call('HSET', key, unpack(fields))
    fields, n = {}, 0
  end
end
head.last = last
head.version = head.version + 1
if fence ~= head.fence then
  head.fence = fence
  keep_fences(KEYS[3], ARGV[9], head)
end
local expired_before = head.expires
head.expires = ttl ~= '' and text_of(now() + tonumber(ttl))
fields[n + 1] = 'w' .. writer
fields[n + 2] = number .. ' ' .. first
fields[n + 3] = 'h'
fields[n + 4] = cmsgpack.pack(head)
redis.call('HSET', key, unpack(fields))
if head.expires then
  redis.call('PEXPIRE', key, math.ceil(tonumber(ttl) / 1000))
elseif expired_before then
  redis.call('PERSIST', key)
end
return report({'A', first}, head)
