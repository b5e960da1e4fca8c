-- KEYS: lease. Returns {owner, token, granted, now, ms left}, or nothing.
local owner, _, token, granted = lease_of(KEYS[1])
if not owner then
  return nil
end
return {owner, token, granted, string.format('%.0f', now_micros()), redis.call('PTTL', KEYS[1])}
