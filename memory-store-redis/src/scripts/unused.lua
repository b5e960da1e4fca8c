-- KEYS: memory, lease, fences, flush lease. Returns {generation, version, messages, when the newest message
-- was made or the metadata updated, or empty, 1 if its TTL has run out, the time, the newest place, the id of its message or empty};
-- nothing if there is none, or a live lease on it.
local found = redis.call('HMGET', key, 'h', 'i', 'd')
local stored = found[1]
if not stored or not tokens_alone and (lease_of(KEYS[2]) or lease_of(KEYS[4])) then
  return nil
end
local head = unpacked(stored)
local id, created = present_newest(head, found[2])
-- Damaged metadata does not keep a memory.
local is_ours, metadata = pcall(metadata_of, found[3])
local updated = is_ours and tonumber(metadata[2])
if updated and updated > (tonumber(created) or 0) then
  created = metadata[2]
end
local expired = head.expires and tonumber(head.expires) <= now()
return {head.generation, head.version, head.messages, created, expired and 1 or 0, text_of(now()),
  text_of(head.last), id}
