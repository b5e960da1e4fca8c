-- KEYS: leases. ARGV: owner and TTL in ms of each. Returns for each 1 (renewed), 2 (another holds it)
-- or 0 (no owner does).
local answers = {}
for i, key in ipairs(KEYS) do
  local owner = lease_of(key)
  if owner == ARGV[2 * i - 1] then
    redis.call('PEXPIRE', key, ARGV[2 * i])
    answers[i] = 1
  else
    answers[i] = owner and 2 or 0
  end
end
return answers
