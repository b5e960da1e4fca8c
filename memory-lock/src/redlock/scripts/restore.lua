-- KEYS: lease and fence of each. ARGV: owner, token and TTL in ms of each. Gives back the leases that are
-- missing here, and only those. Returns how many.
local restored = 0
for i = 1, #KEYS / 2 do
  local key, owner, token, ttl = KEYS[2 * i - 1], ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  if redis.call('EXISTS', key) == 0 then
    local granted = string.format('%.0f', now_micros())
    write_lease(key, owner, token, granted, 'PX', ttl)
    raise(KEYS[2 * i], token)
    restored = restored + 1
  end
end
return restored
