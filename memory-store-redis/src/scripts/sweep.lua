-- KEYS: memory. Deletes fields of messages that are gone. Returns 1 if there is more, else 0.
local stored = redis.call('HMGET', key, 'h', 'g')
if not stored[2] or not open(stored[1]) then
  return 0
end
return sweep(numbers_of(stored[2]))
