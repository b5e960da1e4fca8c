-- KEYS: lease, fence, line. ARGV: owner, TTL in ms, whether the owner waits in line (1 or 0), and, of a
-- quorum, the least token to grant. Returns the token, as a text alone, for an array costs the server some
-- microseconds more; or {ms until it may be free, its owner if any}.
--
-- What is usual comes first and needs no function: nobody has the lease, the owner comes from no line, and the
-- clock is ahead of the last token.
if ARGV[3] == '0' and not ARGV[4] and not redis.call('GET', KEYS[1]) then
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local token = string.format('%.0f', now)
  local last = redis.call('SET', KEYS[2], token, 'GET')
  local before = tonumber(last or '0')
  if before and before < now then
    redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. token .. ' ' .. token, 'PX', ARGV[2])
    return token
  end
  redis.call('SET', KEYS[2], last)
end
