-- KEYS: lease, line. ARGV: owner, name of the lease, channel, its publishing command, how many ms the
-- lease is kept for the next in line. Returns 1, or 0 if the lease was not the owner's.
if lease_of(KEYS[1]) ~= ARGV[1] then
  return 0
end
local next = redis.call('ZPOPMIN', KEYS[2])[1]
if next then
  redis.call('SET', KEYS[1], $KEPT .. next, 'PX', ARGV[5])
else
  redis.call('DEL', KEYS[1])
end
-- An owner without the permission to announce has released the lease; waiters have a timer.
redis.pcall(ARGV[4], ARGV[3], (next or '') .. ' ' .. ARGV[2])
return 1
