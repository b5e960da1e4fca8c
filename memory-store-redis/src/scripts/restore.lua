-- KEYS: memory, lease, fences. ARGV 4...: owner, token, writer, number, spread of the generation, the id of the
-- receipt, and the mark of the next flush. Returns {'A', head, 0}, {'D', head, 0}, {'N', reason}, where the reason is A if the
-- removal is not in the archive, C if the memory was cleared since, R or P if its summary was removed or replaced;
-- or a refusal.
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
if not removal or removal.taken > 0 and not original then
  return error('CORRUPT ' .. key .. ' holds a removal in its archive that is not ours')
end

local ranges, set, taken = ranges_of(head, stored[3]), {}, text_of(removal.taken)
if removal.taken > 0 then
  local summary = lies_in(ranges, removal.taken) and redis.call('HGET', key, 'm' .. taken)
  local flags, tokens, id, length, from =
    string.match(summary or '', '^%d+ (%d) (%d+) (%x+) %-?%d+ (%d+) ()')
  if id ~= removal.summary then
    local is_replaced = id and tonumber(flags) >= 2 and not later(function(_, other)
      local removed = removal_of(head, other)
      return removed and lies_in(removed.ranges, removal.taken)
    end)
    return {'N', is_replaced and 'P' or 'R'}
  end
  count(head, string.sub(summary, from, from + length - 1), -1, -tonumber(tokens))
  head.summaries = head.summaries - 1
  set = {'m' .. taken, original}
end
for class, tally in pairs(removal.classes) do
  count(head, class, tally[1], tally[2])
end
head.summaries = head.summaries + removal.summaries
head.summarised = head.summarised - removal.summarised
head.evicted = head.evicted - removal.evicted
head.withdrawn = head.withdrawn - removal.withdrawn
local all, back, one, other = {}, append_without({}, removal.ranges, removal.taken), 1, 1
while ranges[one] or back[other] do
  if back[other] and not (ranges[one] and ranges[one] < back[other]) then
    add_places(all, back[other], back[other + 1])
    other = other + 2
  else
    add_places(all, ranges[one], ranges[one + 1])
    one = one + 2
  end
end
if places_in(all, head.last, true) ~= head.messages
  or math.min(head.summarised, head.evicted, head.withdrawn) < 0 then
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
redis.call('HSET', key, unpack(set))
