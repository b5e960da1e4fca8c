-- KEYS: memory, lease, fences. ARGV 4...: owner, token, writer, number, spread of the generation, the snapshot that was
-- looked at as `generation place id`, of its newest message (generation 0 for no memory), the number of receipts ever,
-- the least place to erase that was not assigned then or empty, the record, the numbers of archived messages that were
-- counted as summarized, evicted and cleared, those of present summaries and of other present messages to erase, and
-- the bytes of the archived ones. Then, each with its number before it: the places of the present messages to erase as
-- ascending pairs, their classes with the messages and tokens of each, fields and their new values, fields to delete,
-- and the indices of overdue removals to drop. Returns {'A', head, record}, {'D', head, record or the time}, {'C'} if the
-- memory was changed since, or a refusal. The fields `x<n>` are a ring of the newest records, each after its writer,
-- number, time and generation; `x` is the number of all.
local owner, token, writer, number = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local generation, newest, id = string.match(ARGV[9], '^(%d+) (%d+) (%x*)$')
local stored = redis.call('HMGET', key, 'h', 'w' .. writer, 'i', 'g', 'v', 'z', 'x', 'm' .. newest)
local watched = stored[5]
local head, begins, leftover = open_to_write(stored[1], KEYS[3], watched)
local marks, is_forgotten = session_of('w' .. writer, not begins and stored[2], begins)
if is_forgotten then
  return is_forgotten
end
if not begins and earlier(stored[2], number) then
  if confirms then
    redis.call('HSET', key, 'h', stored[1])
  end
  local by, record = writer .. ' ' .. number .. ' ', text_of(now())
  for n = 0, ERASURES - 1 do
    local other = redis.call('HGET', key, 'x' .. n)
    record = other and string.sub(other, 1, #by) == by and other or record
  end
  return {'D', stored[1], record}
end
local fence, refusal = admit(KEYS[2], owner, token, head.fence)
if not fence then
  return refusal
end
local archive, ranges = not begins and archive_of(head, stored[6]), begins and {} or ranges_of(head, stored[3])
if generation ~= (begins and '0' or head.generation)
  or not begins and not is_there(head, ranges, tonumber(newest), id, stored[8])
  or ARGV[10] ~= text_of(head.receipts)
  or ARGV[11] ~= '' and head.last >= tonumber(ARGV[11])
  or not begins and (stored[4] or archive and archive.swept < archive.first) then
  return {'C'}
end

local at = 19
-- The next list, of which each entry has this many arguments.
local function list(size)
  local count = tonumber(ARGV[at]) * size
  local all = {}
  for n = at + 1, at + count do
    all[#all + 1] = ARGV[n]
  end
  at = at + count + 1
  return all
end
local removed, classes, set, delete, overdue = list(2), list(3), list(2), list(1), list(1)
local summarized, evicted, cleared = tonumber(ARGV[13]), tonumber(ARGV[14]), tonumber(ARGV[15])
for n = 1, #classes, 3 do
  count(head, classes[n], -tonumber(classes[n + 1]), -tonumber(classes[n + 2]))
end
head.summaries = head.summaries - tonumber(ARGV[16])
head.summarized, head.evicted = head.summarized - summarized, head.evicted - evicted
head.cleared = head.cleared - cleared
head.withdrawn = head.withdrawn + tonumber(ARGV[17]) + summarized + evicted + cleared
if math.min(head.messages, head.tokens, head.summaries, head.summarized, head.evicted, head.cleared) < 0 then
  return error('CORRUPT ' .. key .. ' holds counters that are not ours')
end
local left, next = {}, 1
for pair = 1, #ranges, 2 do
  local first, last = ranges[pair], ranges[pair + 1]
  while removed[next] and tonumber(removed[next]) <= last do
    add_places(left, first, tonumber(removed[next]) - 1)
    first = math.max(first, tonumber(removed[next + 1]) + 1)
    if tonumber(removed[next + 1]) > last then
      break
    end
    next = next + 2
  end
  add_places(left, first, last)
end
if places_in(left, head.last, true) ~= head.messages then
  return error('CORRUPT ' .. key .. ' holds an index of its messages that is not ours')
end

if leftover then
  redis.call('UNLINK', key)
  if watched then
    redis.call('HSET', key, 'v', watched)
  end
end
-- The first write, because a full server refuses a script whose first write adds something.
in_chunks('HDEL', delete)
local gone = {}
for _, index in ipairs(overdue) do
  local record = found_at(tonumber(index))
  if record then
    archive.bytes = archive.bytes - delete_removal(head, tonumber(index), record, gone)
  end
end
if #gone > 0 then
  sweep(gone, left, PART)
end
if not begins then
  head.base = head.last
  set[#set + 1] = 'i'
  set[#set + 1] = table.concat(left, ' ')
end
if archive then
  archive.bytes = math.max(archive.bytes - tonumber(ARGV[18]), 0)
  set[#set + 1] = 'z'
  set[#set + 1] = state_of(archive)
end
head.next_flush_at = head.next_flush_at == HELD and HELD
head.generation = next_generation(head.generation, ARGV[8])
head.version = head.version + 1
head.fence = fence
-- A memory in which nothing was ever written is forgotten in the end; its first message sets its own TTL.
local day = head.last == 0 and 86400000
if day then
  head.expires = text_of(now() + day * 1000)
end
keep_fences(KEYS[3], head)
local all = tonumber(not begins and stored[7] or 0)
local record = table.concat({writer, number, text_of(now()), head.generation, ARGV[12]}, ' ')
local after = packed(head)
for _, value in ipairs({
  'x', text_of(all + 1), 'x' .. text_of(all % ERASURES), record, 'w' .. writer, number .. ' ', 'h', after,
}) do
  set[#set + 1] = value
end
in_chunks('HSET', set)
if day then
  redis.call('PEXPIRE', key, day)
end
