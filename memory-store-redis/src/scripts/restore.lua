-- KEYS: memory, lease, fences. ARGV 4...: owner, token, writer, number, spread of the generation, the id of the
-- receipt, and the mark of the next flush. Returns {'A', head, 0}, {'D', head, 0}, {'N', reason}, where the reason is A if the
-- removal is not in the archive, C if the memory was cleared since, E if a message was erased, R or P if its summary
-- was removed or replaced, M or Q if the same holds for a message that it replaced; or a refusal.
local owner, token, writer, number = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local stored = redis.call('HMGET', key, 'h', 'w' .. writer, 'i', 'v', 'z', 'u' .. ARGV[9])
local watched = stored[4]
local head, begins = open_to_write(stored[1], KEYS[3], watched)
local marks, is_forgotten = session_of('w' .. writer, not begins and stored[2], begins)
if is_forgotten then
  return is_forgotten
end
if not begins and earlier(stored[2], number) then
  if confirms then
    redis.call('HSET', key, 'h', stored[1])
  end
  return {'D', stored[1], 0}
end
local fence, refusal = admit(KEYS[2], owner, token, head.fence)
if not fence then
  return refusal
end
local archive = not begins and archive_of(head, stored[5])
-- Of several removals with this receipt, the newest.
local indices, index, found = archive and numbers_of(stored[6]) or {}, nil, nil
for n = #indices, 1, -1 do
  found = indices[n] >= archive.first and indices[n] < archive.following and found_at(indices[n])
  if found and kept_cause(found) then
    index = indices[n]
    break
  end
end
if not index then
  return {'N', 'A'}
end
-- The removals that came later and are kept.
local function later(each)
  for from = index + 1, archive.following - 1, CHUNK do
    local fields = {}
    for at = from, math.min(from + CHUNK, archive.following) - 1 do
      fields[#fields + 1] = 'a' .. text_of(at)
    end
    for _, other in ipairs(redis.call('HMGET', key, unpack(fields))) do
      local cause = kept_cause(other)
      if cause and each(cause, other) then
        return true
      end
    end
  end
  return false
end
if later(function(cause) return cause == 'c' end) then
  return {'N', 'C'}
end
local removal, of = removal_of(head, found), text_of(index)
local original = redis.call('HGET', key, 'o' .. of)
if removal and removal.erased then
  return {'N', 'E'}
end
if not removal or removal.taken > 0 and not original then
  return error('CORRUPT ' .. key .. ' holds a removal in its archive that is not ours')
end

local ranges, set, taken = ranges_of(head, stored[3]), {}, text_of(removal.taken)
local function is_removed(place)
  return later(function(_, other)
    local removed = removal_of(head, other)
    return removed and has_place(removed, place)
  end)
end
-- The messages that are in the places of originals, and the originals.
local asked, originals = {}, {}
for n, one in ipairs(removal.replaced) do
  asked[n], originals[n] = 'm' .. text_of(one.place), original_at(index, one.place)
end
local present, archived = {}, {}
in_chunks('HMGET', asked, function(found, from)
  for n = 1, #found do
    present[from + n - 1] = found[n]
  end
end)
in_chunks('HMGET', originals, function(found, from)
  for n = 1, #found do
    archived[from + n - 1] = found[n]
  end
end)
local function refuse_replaced()
  for n, one in ipairs(removal.replaced) do
    local there = lies_in(ranges, one.place) and present[n]
    if not archived[n] then
      return error('CORRUPT ' .. key .. ' holds a removal in its archive that is not ours')
    elseif not there then
      return 'M'
    end
    local _, _, _, _, _, id = described(there, one.place)
    if id ~= one.id then
      return is_removed(one.place) and 'M' or 'Q'
    end
  end
end
if removal.taken > 0 then
  local summary = lies_in(ranges, removal.taken) and redis.call('HGET', key, 'm' .. taken)
  local flags, tokens, id, length, from =
    string.match(summary or '', '^%d+ (%d) (%d+) (%x+) %-?%d+ (%d+) ()')
  if id ~= removal.summary then
    local is_replaced = id and tonumber(flags) >= 2 and not is_removed(removal.taken)
    return {'N', is_replaced and 'P' or 'R'}
  end
end
local refused = refuse_replaced()
if refused then
  return {'N', refused}
end
if removal.taken > 0 then
  local summary = redis.call('HGET', key, 'm' .. taken)
  local _, _, tokens, class = described(summary, taken)
  count(head, class, -1, -tokens)
  head.summaries = head.summaries - 1
  set = {'m' .. taken, original}
end
for n, one in ipairs(removal.replaced) do
  local _, _, tokens, class = described(present[n], one.place)
  count(head, class, -1, -tokens)
  _, _, tokens, class = described(archived[n], one.place)
  count(head, class, 1, tokens)
  set[#set + 1], set[#set + 2] = asked[n], archived[n]
end
for class, tally in pairs(removal.classes) do
  count(head, class, tally[1], tally[2])
end
head.summaries = head.summaries + removal.summaries
head.summarized = head.summarized - removal.summarized
head.evicted = head.evicted - removal.evicted
head.withdrawn = head.withdrawn - removal.withdrawn
local all = merged(ranges, append_without({}, removal.ranges, removal.taken))
if places_in(all, head.last, true) ~= head.messages
  or math.min(head.summarized, head.evicted, head.withdrawn) < 0 then
  return error('CORRUPT ' .. key .. ' holds a removal in its archive that is not ours')
end
archive.bytes = math.max(archive.bytes - removal.bytes, 0)
head.base = head.last
head.generation = next_generation(head.generation, ARGV[8])
head.next_flush_at = ARGV[10]
head.version = head.version + 1
head.fence = fence
-- The first write, because a full server refuses a script whose first write adds something. The places return.
delete_removal(head, index, found, {})
keep_fences(KEYS[3], head)
local after = packed(head)
for _, value in ipairs({
  'i', table.concat(all, ' '), 'z', state_of(archive), 'w' .. writer, number .. ' ', 'h', after,
}) do
  set[#set + 1] = value
end
in_chunks('HSET', set)
