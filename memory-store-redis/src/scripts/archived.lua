-- KEYS: memory. ARGV 4...: the number of a removal, a place, how many messages after it at most, and how many bytes
-- are enough. Returns the generation, 1 if there is more, else 0, then of each message its place and itself, empty
-- for one that is not there.
local FEW = 64
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
local answer, bytes, read, fields, places = {head.generation, 0}, 0, 0, {}, {}
local function take()
  local found = #fields > 0 and redis.call('HMGET', key, unpack(fields)) or {}
  for n = 1, #fields do
    local message = places[n] == removal.taken and original or found[n] or ''
    bytes = bytes + #message
    answer[#answer + 1] = text_of(places[n])
    answer[#answer + 1] = message
  end
  read = read + #fields
  fields, places = {}, {}
end
for pair = 1, #ranges, 2 do
  for place = math.max(ranges[pair], after + 1), ranges[pair + 1] do
    if #fields == FEW then
      take()
    end
    if read + #fields == limit or bytes >= enough then
      answer[2] = 1
      break
    end
    fields[#fields + 1] = originals[place] or 'm' .. text_of(place)
    places[#places + 1] = place
  end
  if answer[2] == 1 then
    break
  end
end
take()
return answer
