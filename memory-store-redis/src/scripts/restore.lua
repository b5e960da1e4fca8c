-- KEYS: memory, lease, fences. ARGV 4...: owner, token, writer, number, spread of the generation, the id of the
-- receipt, the mark of the next flush, and the position of an earlier call, or empty. Returns {'A', head, 0}, {'D', head, 0},
-- {'A', '', position} if more later removals must be looked at and nothing was changed, {'N', reason}, where the reason is A
-- if the removal is not in the archive, C if the memory was cleared since, E if a message was erased, R or P if its summary
-- was removed or replaced, M or Q if the same holds for a message that it replaced; or a refusal.
-- How many later removals one call looks at, and how many bytes of them: fewer if each must be unpacked.
local LOOK_BYTES, LOOK_AT_ONCE, UNPACKED = 262144, 50, 100
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
local removal, of = removal_of(head, found), text_of(index)
local original = redis.call('HGET', key, 'o' .. of)
local ranges, set, taken = ranges_of(head, stored[3]), {}, removal and text_of(removal.taken)
-- The messages that are in the places of originals, and the originals.
local asked, originals = {}, {}
for n, one in ipairs(removal and removal.replaced or {}) do
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
-- The reason for which it cannot be undone, X for damaged data, if the memory was not cleared since. With a place, it is the
-- first reason if a later removal has the message that was there, else the second one.
local function refused()
  if removal and removal.erased then
    return 'E'
  end
  if not removal or removal.taken > 0 and not original then
    return 'X'
  end
  if removal.taken > 0 then
    local summary = lies_in(ranges, removal.taken) and redis.call('HGET', key, 'm' .. taken)
    local flags, id = string.match(summary or '', '^%d+ (%d) %d+ (%x+) %-?%d+ %d+ ')
    if id ~= removal.summary then
      return 'R', id and tonumber(flags) >= 2 and 'P', removal.taken
    end
  end
  for n, one in ipairs(removal.replaced) do
    local there = lies_in(ranges, one.place) and present[n]
    if not archived[n] then
      return 'X'
    elseif not there then
      return 'M'
    end
    local _, _, _, _, _, id = described(there, one.place)
    if id ~= one.id then
      return 'M', 'Q', one.place
    end
  end
end
local reason, otherwise, place = refused()
place = otherwise and place or 0
-- Looks at the later removals that are kept. A position is the index of this removal, the place, 1 if a later removal has the
-- message of the place, the index of the next removal to look at, and the index and the digest of one that was looked at. If
-- that one is another one now, the server may have lost later removals, and others have their indices.
local last, digest, from, is_removed = of, redis.sha1hex(found), index + 1, false
do
  local same, at, removed, following, seen, before =
    string.match(ARGV[11], '^(%d+) (%d+) (%d) (%d+) (%d+) (%x+)$')
  if same == of and at == text_of(place) and redis.sha1hex(found_at(tonumber(seen)) or '') == before then
    last, digest, from, is_removed = seen, before, tonumber(following), removed == '1'
  end
end
local looked, bytes, most = 0, 0, place > 0 and not is_removed and UNPACKED or CHUNK
while from < archive.following do
  if looked >= most or bytes >= LOOK_BYTES * most / CHUNK then
    return {'A', '', table.concat({of, text_of(place), is_removed and 1 or 0, text_of(from), last, digest}, ' ')}
  end
  local fields, newest = {}, nil
  for at = from, math.min(from + LOOK_AT_ONCE, archive.following) - 1 do
    fields[#fields + 1] = 'a' .. text_of(at)
  end
  for n, other in ipairs(redis.call('HMGET', key, unpack(fields))) do
    local cause = kept_cause(other)
    if cause == 'c' then
      return {'N', 'C'}
    elseif cause and place > 0 and not is_removed then
      local removed = removal_of(head, other)
      is_removed = removed and has_place(removed, place) or false
    end
    if other then
      last, newest, bytes = text_of(from + n - 1), other, bytes + #other
    end
  end
  digest = newest and redis.sha1hex(newest) or digest
  from, looked = from + #fields, looked + #fields
end
if reason == 'X' then
  return error('CORRUPT ' .. key .. ' holds a removal in its archive that is not ours')
elseif reason then
  return {'N', otherwise and not is_removed and otherwise or reason}
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
