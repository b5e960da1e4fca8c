-- Writes a lease; the options of SET follow.
local function write_lease(key, owner, token, granted, ...)
  redis.call('SET', key, owner .. ' ' .. token .. ' ' .. granted, ...)
end
