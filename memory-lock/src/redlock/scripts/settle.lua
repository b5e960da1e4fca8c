-- KEYS: lease, fence. ARGV: owner, token. Gives the lease this token if it is the owner's. Returns 1, or
-- 0 if it is not.
local owner, _, token, granted = lease_of(KEYS[1])
if owner ~= ARGV[1] then
  return 0
end
if token ~= ARGV[2] then
  write_lease(KEYS[1], owner, ARGV[2], granted, 'KEEPTTL')
end
raise(KEYS[2], ARGV[2])
return 1
