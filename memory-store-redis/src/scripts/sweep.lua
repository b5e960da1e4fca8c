-- KEYS: memory. ARGV 4: how many at most. Deletes fields of removed messages. Returns 1 if there is more, else 0.
local stored = redis.call('HMGET', key, 'h', 'g', 'i', 'z')
local head = open(stored[1])
local archive = head and archive_of(head, stored[4])
local has_dropped = archive and archive.swept < archive.first
if not head or not stored[2] and not has_dropped then
  return 0
end
local more =
  sweep_all(head, archive, gone_of(head, stored[2]), ranges_of(head, stored[3]), tonumber(ARGV[4]))
if has_dropped then
  redis.call('HSET', key, 'z', state_of(archive))
end
return more
