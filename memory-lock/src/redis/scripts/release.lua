  -- Another's, nobody's, or no lease of ours, which is an error.
  lease_of(KEYS[1])
  return 0
end
local next = redis.call('ZPOPMIN', KEYS[2])[1]
if next then
  redis.call('SET', KEYS[1], '~' .. next, 'PX', ARGV[5])
else
  redis.call('DEL', KEYS[1])
end
-- Who may not announce has released all the same; waiters have a timer.
redis.pcall(ARGV[4], ARGV[3], (next or '') .. ' ' .. ARGV[2])
return 1
