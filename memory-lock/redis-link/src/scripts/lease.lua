local function now_micros()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- A lease is `owner token granted`; one that is reserved for the next in line is `~` and its owner, and
-- has no holder until that owner takes it.
local function lease_of(key)
  local value = redis.call('GET', key)
  if not value or string.sub(value, 1, 1) == $KEPT then
    return nil, value
  end
  local owner, token, granted = string.match(value, '^(%x+) (%d+) (%d+)$')
  if not owner then
    return error('CORRUPT ' .. key .. ' does not hold a lease of ours')
  end
  return owner, value, token, granted
end
