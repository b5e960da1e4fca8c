-- KEYS: memory. ARGV 4...: the number of a removal, a place, how many messages after it at most, and how many bytes
-- are enough. Returns the generation, 1 if there is more, else 0, then of each message its place and itself, empty
-- for one that is not there.
local stored = redis.call('HMGET', key, 'h', 'z')
local head = open(stored[1])
local archive, number = head and archive_of(head, stored[2]), tonumber(ARGV[4])
local index = archive and index_before(head, archive, number + 1) or 0
local found = index > 0 and found_at(index)
local removal = kept_cause(found) and removal_of(head, found)
if not removal or removal.number ~= number then
  return {head and head.generation or '0', 0}
end
local original = redis.call('HGET', key, 'o' .. text_of(index))
local originals = {}
for _, one in ipairs(removal.replaced) do
  originals[one.place] = original_at(index, one.place)
end
local ranges = merged(removal.ranges, places_of(removal.replaced))
local after, limit, enough = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local answer, bytes, read = {head.generation, 0}, 0, 0
for pair = 1, #ranges, 2 do
  for place = math.max(ranges[pair], after + 1), ranges[pair + 1] do
    if read == limit or bytes >= enough then
      answer[2] = 1
      return answer
    end
    -- One after the other, because each may be large.
    local message = place == removal.taken and original
      or redis.call('HGET', key, originals[place] or 'm' .. text_of(place)) or ''
    bytes, read = bytes + #message, read + 1
    answer[#answer + 1] = text_of(place)
    answer[#answer + 1] = message
  end
end
return answer
