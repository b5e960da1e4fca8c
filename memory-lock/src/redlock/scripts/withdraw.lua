-- KEYS: lease. ARGV: owner. Takes back an unused grant; unlike a release it is not announced,
-- because no waiter waited for it. Returns 1, or 0 if it was not the owner's.
if lease_of(KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
