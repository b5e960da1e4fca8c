-- Not otherwise: after any write a script is let past `maxmemory`.
if leftover then
  redis.call('UNLINK', key)
end

local at = 10
for _ = 1, tonumber(ARGV[9]) do
  local class, messages, tokens = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  head[MESSAGES] = head[MESSAGES] + messages
  head[TOKENS] = head[TOKENS] + tokens
  head[APPENDED] = head[APPENDED] + messages
  local slot = FIRST_CLASS
  while head[slot] and head[slot] ~= class do
    slot = slot + 3
  end
  head[slot] = class
  head[slot + 1] = (head[slot + 1] or 0) + messages
  head[slot + 2] = (head[slot + 2] or 0) + tokens
  at = at + 3
end

local count = (#ARGV - at + 1) / 2
local first = string.format('%.0f', head[LAST] + 1)
head[LAST] = head[LAST] + count
head[VERSION] = head[VERSION] + 1
local ttl, expired = ARGV[8], head[EXPIRES] ~= ''
if ttl == '' then
  head[EXPIRES] = ''
else
  if not time then
    time = tonumber(ARGV[1])
  end
  if not time then
    local parts = redis.call('TIME')
    time = parts[1] * 1000000 + parts[2]
  end
  head[EXPIRES] = string.format('%.0f', time + tonumber(ttl))
end
local after, written = cmsgpack.pack(head), ARGV[7] .. ' ' .. first

if count == 1 then
  redis.call('HSET', key, 'm' .. first, ARGV[at], 'b' .. first, ARGV[at + 1], ARGV[6], written, 'h', after)
else
  local fields, n = {}, 0
  for number = 1, count do
    local place = string.format('%.0f', head[LAST] - count + number)
    fields[n + 1] = 'm' .. place
    fields[n + 2] = ARGV[at]
    fields[n + 3] = 'b' .. place
    fields[n + 4] = ARGV[at + 1]
    n, at = n + 4, at + 2
    if n >= 2000 then
      redis.call('HSET', key, unpack(fields))
      fields, n = {}, 0
    end
  end
  fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4] = ARGV[6], written, 'h', after
  redis.call('HSET', key, unpack(fields))
end
if ttl ~= '' then
  redis.call('PEXPIRE', key, math.ceil(tonumber(ttl) / 1000))
elseif expired then
  redis.call('PERSIST', key)
end
return after
