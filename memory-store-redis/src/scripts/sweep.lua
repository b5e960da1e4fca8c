-- KEYS: memory. ARGV 4: how many at most. Deletes fields of removed messages. Returns 1 if there is more, else 0.
local stored = redis.call('HMGET', key, 'h', 'g', 'i')
local head = open(stored[1])
if not stored[2] or not head then
  return 0
end
return sweep(gone_of(head, stored[2]), ranges_of(head, stored[3]), tonumber(ARGV[4]))
