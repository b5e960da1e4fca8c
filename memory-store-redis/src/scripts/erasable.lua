-- KEYS: memory. ARGV 4...: an index of a removal and a place in it, after which to look, both 0 at first; how many
-- bytes are enough; then the places to erase, as ascending pairs. Returns the generation, the number of receipts ever,
-- the last place, 1 if removed messages must be swept, the index and the place of the next call or 0 0, and the number
-- of receipts, which are read at first: of each its field and itself, newest first. Then of each removal, or part of
-- one: its index, itself, 1 if it is kept, how many messages are at the places, of each its place, its description
-- and the bytes of its text, how many summaries it has, and of each its place and its id.
local FEW = 64
local stored = redis.call('HMGET', key, 'h', 'g', 'z')
local head = open(stored[1])
if not head then
  return {'0', 0, 0, 0, 0, 0, 0}
end
local archive = archive_of(head, stored[3])
local is_unswept = stored[2] or archive and archive.swept < archive.first
local answer = {
  head.generation, text_of(head.receipts), text_of(head.last), is_unswept and 1 or 0, 0, 0, 0,
}
local function add(...)
  for n = 1, select('#', ...) do
    answer[#answer + 1] = (select(n, ...))
  end
end
local index, after, enough = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if index == 0 then
  for back = 1, math.min(head.receipts, RECEIPTS) do
    local field = text_of((head.receipts - back) % RECEIPTS)
    local receipt = redis.call('HGET', key, 'r' .. field)
    if receipt then
      answer[7] = answer[7] + 1
      add(field, receipt)
    end
  end
end
if not archive then
  return answer
end
local asked = {}
for n = 7, #ARGV do
  asked[#asked + 1] = tonumber(ARGV[n])
end
-- The places of a removal to look at, after one: all, if it may have summaries.
local function places_to_look(removal, cause)
  local places = {}
  local all = merged(removal.ranges, places_of(removal.replaced))
  local looked, others = all, asked
  if removal.summaries == 0 and cause ~= 'c' then
    looked, others = asked, all
  end
  for pair = 1, #looked, 2 do
    for place = math.max(looked[pair], after + 1), math.min(looked[pair + 1], head.last) do
      if looked == all or lies_in(others, place) then
        places[#places + 1] = place
      end
    end
  end
  return places
end
local bytes, looked = 0, 0
index = math.max(index, archive.first)
while index < archive.following and bytes < enough and looked < CHUNK do
  looked = looked + 1
  local record = found_at(index)
  local removal = removal_of(head, record)
  local places, read = removal and places_to_look(removal, string.sub(record, 1, 1)) or {}, 0
  local found, summaries, originals = {}, {}, {}
  for _, one in ipairs(removal and removal.replaced or {}) do
    originals[one.place] = original_at(index, one.place)
  end
  while read < #places and bytes < enough do
    local fields, to = {}, math.min(read + FEW, #places)
    for n = read + 1, to do
      fields[#fields + 1] = originals[places[n]] or (places[n] == removal.taken and 'o' or 'm') .. text_of(
        places[n] == removal.taken and index or places[n])
    end
    for n, message in ipairs(redis.call('HMGET', key, unpack(fields))) do
      message = message or ''
      local place, length, flags, id = places[read + n], string.match(message, '^(%d+) (%d) %d+ (%x+) ')
      local size = length and #length + 1 + tonumber(length) or 0
      bytes = bytes + #message
      if lies_in(asked, place) then
        for _, part in ipairs({text_of(place), string.sub(message, 1, size), #message - size}) do
          found[#found + 1] = part
        end
      end
      if flags and tonumber(flags) >= 2 then
        summaries[#summaries + 1], summaries[#summaries + 2] = text_of(place), id
      end
    end
    read = to
  end
  if removal then
    bytes = bytes + #record
    add(text_of(index), record, kept_cause(record) and 1 or 0, #found / 3)
    for _, part in ipairs(found) do
      add(part)
    end
    add(#summaries / 2)
    for _, part in ipairs(summaries) do
      add(part)
    end
  end
  if read < #places then
    after = places[read]
    break
  end
  index, after = index + 1, 0
end
if index < archive.following then
  answer[5], answer[6] = text_of(index), text_of(after)
end
return answer
