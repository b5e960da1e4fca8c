-- Announces a write to the watchers, unless their registration `watched` has ended, which is then removed. Expects
-- `key`, and `time` or nothing. The payload is the key of the memory. A user without the permission to publish has
-- written all the same: watchers find the write when they renew their registration.
local ends, channel_kind = string.match(watched, '^(%d+) ([SP])$')
if not time then
  local parts = redis.call('TIME')
  time = parts[1] * 1000000 + parts[2]
end
if ends and tonumber(ends) > time then
  local base, name = string.match(key, '^([^{]*{%d+}:)memory:(.*)$')
  if name then
    redis.pcall(channel_kind == 'S' and 'SPUBLISH' or 'PUBLISH', base .. 'changes', name)
  end
else
  redis.call('HDEL', key, 'v')
end
