-- KEYS: lease, fence, line. ARGV: owner, TTL in ms, whether the owner waits in line (1 or 0), and, of a
-- quorum, the least token to grant. Returns the token, as a text alone, because an array costs the server some
-- microseconds more; or {ms until it may be free, its owner if any}.
local owner, value, token = lease_of(KEYS[1])
local asking, ttl, waits = ARGV[1], ARGV[2], ARGV[3] == '1'
if owner == asking then
  redis.call('PEXPIRE', KEYS[1], ttl)
  return token
end
if value and value ~= $KEPT .. asking then
  if waits then
    redis.call('ZADD', KEYS[3], 'NX', string.format('%.0f', now_micros()), asking)
    redis.call('PEXPIRE', KEYS[3], LINE_TTL)
  end
  local left = redis.call('PTTL', KEYS[1])
  if left < 0 then
    -- A lease without an end (PERSIST, or restored without its TTL) would outlast a dead owner. A live
    -- owner renews it.
    redis.call('PEXPIRE', KEYS[1], ttl)
    left = tonumber(ttl)
  end
  return {left, owner}
end
if waits then
  redis.call('ZREM', KEYS[3], asking)
end
local granted = string.format('%.0f', now_micros())
token = granted
-- The clock is ahead of the last token, as a rule: then this is one call.
local last = redis.call('SET', KEYS[2], token, 'GET')
if last and not tonumber(last) then
  redis.call('SET', KEYS[2], last)
  return error('CORRUPT ' .. KEYS[2] .. ' does not hold a fencing token of ours')
end
local least = math.max(tonumber(last or '0') + 1, tonumber(ARGV[4] or '0'))
if least > tonumber(token) then
  token = string.format('%.0f', least)
  redis.call('SET', KEYS[2], token)
end
write_lease(KEYS[1], asking, token, granted, 'PX', ttl)
return token
