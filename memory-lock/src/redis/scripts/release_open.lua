-- KEYS: lease, line. ARGV: owner, name of the lease, channel, its publishing command, how many ms the
-- lease is kept for the next in line. Returns 1, or 0 if the lease was not the owner's.
local value, owners = redis.call('GET', KEYS[1]), ARGV[1] .. ' '
if not value or string.sub(value, 1, #owners) ~= owners then
