-- KEYS: memory, lease, fences, the origin, which is the memory that is forked. ARGV 4...: owner, token, the id of the copy, the
-- generation at which the origin must be, the place of the last message to take, the origin as it is recorded, and the most
-- fields and bytes of an origin. If the fork may not keep all records, then also those that it keeps: the number of receipts, the
-- id of the newest or empty, and fields with their values. Returns {'A', 1} if the fork is complete, {'A', 0} if
-- it must be written in parts, {'A', 2} if the records are needed, {'X'} if there is a memory, {'C'} if the origin has
-- changed, or a refusal.
local generation, at, origin = ARGV[7], tonumber(ARGV[8]), ARGV[9]
local most_fields, most_bytes = tonumber(ARGV[10]), tonumber(ARGV[11])
local receipts, receipt = tonumber(ARGV[12]), ARGV[13]

-- Adds the messages at the places of these pairs, except one, to the fields that the fork takes.
local function take(wanted, ranges, except)
  for pair = 1, #ranges, 2 do
    for place = ranges[pair], ranges[pair + 1] do
      if place ~= except then
        wanted['m' .. place] = true
      end
    end
  end
end

-- The tallies of the messages at the places of these pairs.
local function weighed(ranges)
  local sums = no_sums()
  for pair = 1, #ranges, 2 do
    if weigh(sums, 'w', ranges[pair], ranges[pair + 1]) then
      return error('a message is missing')
    end
  end
  return sums
end

-- Counts the taken places. Reads the messages that are taken or those that are not, whichever are fewer.
local function count_taken(head, from, ranges, places)
  local count_of, others = places_in(places, from.last, true), {}
  if count_of * 2 <= from.messages then
    local sums = weighed(places)
    head.summaries, head.classes = sums.summaries, sums.classes
  else
    for pair = 1, #ranges, 2 do
      add_places(others, math.max(ranges[pair], at + 1), ranges[pair + 1])
    end
    local sums = weighed(others)
    head.summaries, head.classes = from.summaries - sums.summaries, from.classes
    for class, tally in pairs(sums.classes) do
      count(head, class, -tally[1], -tally[2])
    end
    head.messages, head.tokens = 0, 0
  end
  for _, tally in pairs(head.classes) do
    head.messages, head.tokens = head.messages + tally[1], head.tokens + tally[2]
  end
end

-- Adds the archived removals of which all places are taken. Returns the state of their archive, if there is one.
local function take_archive(head, from, archive, wanted, set)
  local kept = {swept = archive.first, first = archive.first, following = archive.following, look = archive.first, bytes = 0}
  local named, messages = {}, 0
  for index = archive.first, archive.following - 1 do
    local n, stored = text_of(index), found_at(index)
    local cause = kept_cause(stored)
    local removal = cause and removal_of(from, stored)
    if cause and not removal then
      return error('a removal is damaged')
    end
    if removal and removal.erased then
      -- Its sums include the erased messages.
      return error('messages were erased')
    end
    local last = removal and math.max(removal.ranges[#removal.ranges] or 0,
      (removal.replaced[#removal.replaced] or {place = 0}).place)
    if removal and last <= at then
      messages = messages + removal.messages
      if messages > most_fields then
        return error('messages are missing')
      end
      take(wanted, removal.ranges, removal.taken)
      if cause == 'c' then
        head.cleared = head.cleared + weighed(removal.ranges).withdrawn
      end
      for _, name in ipairs({'summarized', 'evicted', 'withdrawn'}) do
        head[name] = head[name] + removal[name]
      end
      wanted['a' .. n] = true
      if lies_in(removal.ranges, removal.taken) then
        wanted['o' .. n] = true
      end
      for _, one in ipairs(removal.replaced) do
        wanted[original_at(index, one.place)] = true
      end
      if removal.receipt_id ~= '' then
        local others = named[removal.receipt_id]
        named[removal.receipt_id] = (others and others .. ' ' or '') .. n
      end
      kept.bytes = kept.bytes + removal.bytes
      head.form = FORM
    end
  end
  for id, indices in pairs(named) do
    set[#set + 1], set[#set + 2] = 'u' .. id, indices
  end
  if head.form == FORM then
    set[#set + 1], set[#set + 2] = 'z', state_of(kept)
  end
end

-- The fields of the origin that the fork does not take. Fails if one that it should take is not there.
local function others_than(wanted, fields)
  local left = 0
  for _ in pairs(wanted) do
    left = left + 1
  end
  local others = {}
  for _, field in ipairs(fields) do
    if wanted[field] then
      left = left - 1
    else
      others[#others + 1] = field
    end
  end
  return left == 0 and others or error('a field is missing')
end

-- The fields of the writers and of their list, and how many messages there are besides.
local function writers_among(fields)
  local writers, messages = {}, 0
  for n = 1, #fields do
    local kind = string.byte(fields[n])
    if kind == 109 then
      messages = messages + 1
    elseif kind == 112 or kind == 115 or kind == 119 then
      writers[#writers + 1] = fields[n]
    end
  end
  return writers, messages
end

-- The part of the memory at `key` that the fork takes: its head, the fields that it does not take and those to set; or the answer.
local function taken()
  local stored = redis.call('HMGET', key, 'h', 'i', 'z', 'x', 'v', 'f', 'd')
  local from = stored[1] ~= UNFINISHED and open(stored[1])
  if not from or from.generation ~= generation then
    return {'C'}
  end
  if redis.call('HLEN', key) > most_fields or redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) > most_bytes then
    return {'A', 0}
  end
  local is_whole = at >= from.last
  -- A record of an erasure that found nothing is not kept.
  local keeps_all = is_whole and not stored[4]
  if not keeps_all and not receipts and (from.receipts > 0 or stored[4]) then
    return {'A', 2}
  end
  local ranges, places, set = ranges_of(from, stored[2]), {}, {}
  for pair = 1, #ranges, 2 do
    add_places(places, ranges[pair], math.min(ranges[pair + 1], at))
  end
  local head = new_head(NO_TOKEN, NO_TOKEN, '0')
  head.version, head.expires, head.last = from.version, from.expires, math.min(at, from.last)
  head.base = head.last
  head.next_flush_at = (is_whole or from.next_flush_at == HELD) and from.next_flush_at
  set[1], set[2] = 'i', table.concat(places, ' ')
  if is_whole then
    for _, name in ipairs({'messages', 'tokens', 'summaries', 'classes'}) do
      head[name] = from[name]
    end
  else
    count_taken(head, from, ranges, places)
  end
  head.appended = head.messages - head.summaries
  local fields = redis.call('HKEYS', key)
  if keeps_all then
    head.receipts, head.receipt = from.receipts, from.receipt
    local writers, messages = writers_among(fields)
    local known = #writers + messages + math.min(from.receipts, RECEIPTS)
    for n = 1, #stored do
      known = known + (stored[n] and 1 or 0)
    end
    -- Most memories have no other fields than these.
    if known == #fields and messages == from.messages and not stored[3] then
      return {head = head, others = writers, set = set}
    end
  end
  local wanted = {}
  take(wanted, places)
  wanted['d'] = stored[7] and true or nil
  if keeps_all then
    for back = 1, math.min(from.receipts, RECEIPTS) do
      wanted['r' .. (from.receipts - back) % RECEIPTS] = true
    end
  else
    head.receipts, head.receipt = receipts or 0, receipt or ''
    for n = 14, #ARGV do
      set[#set + 1] = ARGV[n]
    end
  end
  local archive = archive_of(from, stored[3])
  if archive and archive.following - archive.first > most_fields then
    return {'A', 0}
  end
  if archive then
    take_archive(head, from, archive, wanted, set)
  end
  head.appended = head.appended + head.summarized + head.evicted + head.withdrawn + head.cleared
  return {head = head, others = others_than(wanted, fields), set = set}
end

-- The functions above read the memory at `key`.
local target = key
key = KEYS[4]
local is_read, fork = pcall(taken)
key = target
-- The path in parts reports damaged data, with the name of the memory that has it.
if not is_read then
  return {'A', 0}
end
if not fork.head then
  return fork
end
-- Some users and servers may not do this; then nothing was changed.
local copied = redis.pcall('COPY', KEYS[4], key, 'REPLACE')
if type(copied) == 'table' then
  return {'A', 0}
end
local head, set, others = fork.head, fork.set, fork.others
head.fence, head.flush_fence, head.generation = fence, state.flush_fence, next_generation(state.generation)
others[#others + 1] = 'v'
in_chunks('HDEL', others)
if watched then
  set[#set + 1], set[#set + 2] = 'v', watched
end
complete(head, origin, set)
