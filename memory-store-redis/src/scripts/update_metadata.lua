-- KEYS: memory, lease, fences. ARGV 4...: owner, token, writer, number, TTL in microseconds or empty, the expected revision or
-- empty, then of each name itself and its value, both as JSON, or an empty value to remove the name. Returns
-- {'A', metadata}, {'D', metadata or empty}, {'C'} at another revision, {'M', n for names or b for bytes, how many}, or a
-- refusal.
local owner, token, writer, number = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local ttl, expected = ARGV[8], ARGV[9]
local stored = redis.call('HMGET', key, 'h', 'w' .. writer, 'v', 'd')
local watched = stored[3]
local head, begins, leftover = open_to_write(stored[1], KEYS[3], watched)
local marks, is_forgotten = session_of('w' .. writer, not begins and stored[2], begins)
if is_forgotten then
  return is_forgotten
end
if not begins and earlier(stored[2], number) then
  if confirms then
    redis.call('HSET', key, 'h', stored[1])
  end
  return {'D', stored[4] or ''}
end
local fence, refusal = admit(KEYS[2], owner, token, head.fence)
if not fence then
  return refusal
end
local metadata = metadata_of(not begins and stored[4])
if expected ~= '' and expected ~= text_of(metadata[1]) then
  return {'C'}
end
metadata, refusal = updated(metadata, ARGV, 10, now())
if not metadata then
  return refusal
end
-- Not otherwise: after any write a script is let past `maxmemory`.
if leftover then
  redis.call('UNLINK', key)
  if watched then
    redis.call('HSET', key, 'v', watched)
  end
end
head.expires = ttl ~= '' and text_of(now() + tonumber(ttl))
head.version = head.version + 1
head.fence = fence
keep_fences(KEYS[3], head)
local after = cmsgpack.pack(metadata)
redis.call('HSET', key, 'd', after, 'w' .. writer, number .. ' ', 'h', packed(head))
if ttl ~= '' then
  redis.call('PEXPIRE', key, math.ceil(tonumber(ttl) / 1000))
else
  redis.call('PERSIST', key)
end
