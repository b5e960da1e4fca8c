-- KEYS: lease. ARGV: owner. Takes back a grant that nobody made use of; unlike a release it is announced
-- to nobody, for those who wait were not waiting for it. Returns 1, or 0 if it was not the owner's.
if lease_of(KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
