-- KEYS: lease, fence. ARGV: from, to, TTL in ms. Returns the token, or nothing if the lease is neither
-- the giver's nor the receiver's.
local owner, _, token = lease_of(KEYS[1])
if owner == ARGV[2] then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return token
end
if owner ~= ARGV[1] then
  return nil
end
local granted = now_micros()
local next = tonumber(redis.call('GET', KEYS[2]) or '0') + 1
if next < granted then
  next = granted
end
token = string.format('%.0f', next)
redis.call('SET', KEYS[2], token)
redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. token .. ' ' .. string.format('%.0f', granted), 'PX', ARGV[3])
return token
