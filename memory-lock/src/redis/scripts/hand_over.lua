-- KEYS: lease, fence. ARGV: from, to, TTL in ms, and, of a quorum, the least token to grant. Returns the
-- token, or nothing if the lease is neither the giver's nor the receiver's.
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
token = string.format('%.0f', math.max(next, granted, ARGV[4] or 0))
redis.call('SET', KEYS[2], token)
write_lease(KEYS[1], ARGV[2], token, string.format('%.0f', granted), 'PX', ARGV[3])
return token
