-- The archive of a memory, in more fields of its hash. Messages that are removed into it keep their fields; `i` does
-- not list them, and `g` does not name them.
--   z        the state of the archive: `swept first following look bytes`. Removals are counted from 1, in the order of
--            their writes. Those from `first` up to `following` are archived, except those that are missing. Those from
--            `swept` on before `first` were dropped, and their fields must still be deleted. The next write looks at
--            `look` for removals whose time has passed. `bytes` are those of all archived messages
--   a<n>     a removal: its cause (f flush, c clear, w withdrawal), the time in microseconds until which it is kept or
--            nothing, a space, then the fields of `KEPT` and its classes, as a packed array
--   o<n>     the message whose place was taken by the summary of this removal
--   o<n>.<place>  the original of a message that this removal replaced in its place
--   u<id>    the removals with this receipt, ascending: almost always one
local EXACT, SAMPLED, READ_BYTES = 1000, 250, 1048576
-- How many removals a write looks at to find those whose time has passed, and how many a script deletes.
local LOOKED_AT = 16
-- How many removals a write drops, because each must be read: more only where the bound of the bytes was lowered.
local DROPPED_AT_ONCE = 1000
-- After the classes follow, if messages were replaced or erased, as a text: the place of each replaced message and the
-- id of the new one, `/`, and the erased places as pairs.
-- `number` is the version of the memory after the removal, and its number for readers. `taken` is the place that the
-- summary took, or 0.
local KEPT = {
  'number', 'removed_at', 'bytes', 'messages', 'tokens', 'places', 'taken', 'summary', 'summaries', 'summarized',
  'evicted', 'withdrawn', 'receipt_id', 'receipt',
}
local TEXTS = {removed_at = true, places = true, summary = true, receipt_id = true, receipt = true}

-- The state of the archive, or nil if there is none.
local function archive_of(head, stored)
  if not stored then
    return nil
  end
  local numbers = numbers_of(stored)
  local archive = {
    swept = numbers[1], first = numbers[2], following = numbers[3], look = numbers[4], bytes = numbers[5],
  }
  -- Each removal was a write.
  if #numbers ~= 5 or archive.swept < 1 or archive.first < archive.swept or archive.following < archive.first
    or archive.following > head.version + 1 then
    return error('CORRUPT ' .. key .. ' holds an archive that is not ours')
  end
  return archive
end

local function new_archive()
  return {swept = 1, first = 1, following = 1, look = 1, bytes = 0}
end

local function state_of(archive)
  return table.concat({
    text_of(archive.swept), text_of(archive.first), text_of(archive.following), text_of(archive.look),
    text_of(archive.bytes),
  }, ' ')
end

-- The cause of a removal if its time has not passed, else nil.
local function kept_cause(stored)
  local cause, keep_until = string.match(stored or '', '^(%a)(%d*) ')
  return cause and (keep_until == '' or tonumber(keep_until) > now()) and cause or nil
end

-- The field of the original of a replaced message.
local function original_at(index, place)
  return 'o' .. text_of(index) .. '.' .. text_of(place)
end

-- The places and ids of replaced messages, ascending; nil if the text is damaged.
local function replaced_in(text, last)
  local replaced, before = {}, 0
  for place, id in string.gmatch(text, '(%d+) (%x+)') do
    place = tonumber(place)
    if place <= before or place > last then
      return nil
    end
    replaced[#replaced + 1], before = {place = place, id = id}, place
  end
  return replaced
end

-- A removal, unpacked; nil if there is none or it is damaged.
local function removal_of(head, stored)
  local at = string.match(stored or '', '^%a%d* ()')
  if not at then
    return nil
  end
  local ok, array = pcall(cmsgpack.unpack, string.sub(stored, at))
  local more = ok and type(array) == 'table' and (#array - #KEPT) % 3
  if not more or #array < #KEPT or more == 2 then
    return nil
  end
  local removal = {classes = {}, replaced = {}}
  if more == 1 then
    local text = table.remove(array)
    local replaced, erased = string.match(type(text) == 'string' and text or '', '^([^/]*)/?(.*)$')
    removal.replaced, removal.erased = replaced_in(replaced, head.last), erased ~= '' and erased
    if not removal.replaced then
      return nil
    end
  end
  for n, name in ipairs(KEPT) do
    if type(array[n]) ~= (TEXTS[name] and 'string' or 'number') then
      return nil
    end
    removal[name] = array[n]
  end
  for n = #KEPT + 1, #array, 3 do
    if type(array[n]) ~= 'string' or type(array[n + 1]) ~= 'number' or type(array[n + 2]) ~= 'number' then
      return nil
    end
    removal.classes[array[n]] = {array[n + 1], array[n + 2]}
  end
  removal.ranges = numbers_of(removal.places)
  local places = places_in(removal.ranges, head.last, true)
  return places and places + #removal.replaced == removal.messages and removal or nil
end

local function stored_removal(cause, keep_until, removal)
  local array = {}
  for n, name in ipairs(KEPT) do
    array[n] = removal[name]
  end
  for class, tally in pairs(removal.classes) do
    local n = #array
    array[n + 1], array[n + 2], array[n + 3] = class, tally[1], tally[2]
  end
  local replaced = {}
  for n, one in ipairs(removal.replaced) do
    replaced[n] = text_of(one.place) .. ' ' .. one.id
  end
  array[#array + 1] = #replaced > 0 and table.concat(replaced, ' ') or nil
  return cause .. keep_until .. ' ' .. cmsgpack.pack(array)
end

local function found_at(index)
  return redis.call('HGET', key, 'a' .. text_of(index)) or nil
end

-- Adds places, which follow those that are there, to pairs.
local function add_places(pairs_of, first, last)
  local n = #pairs_of
  if first > last then
    return
  elseif n > 0 and pairs_of[n] + 1 == first then
    pairs_of[n] = last
  else
    pairs_of[n + 1], pairs_of[n + 2] = first, last
  end
end

-- Appends the places of these pairs to others, except one place.
local function append_without(others, ranges, place)
  for at = 1, #ranges, 2 do
    local first, last = ranges[at], ranges[at + 1]
    if first <= place and place <= last then
      add_places(others, first, place - 1)
      first = place + 1
    end
    add_places(others, first, last)
  end
  return others
end

-- The places of replaced messages, as pairs.
local function places_of(replaced)
  local places = {}
  for _, one in ipairs(replaced) do
    add_places(places, one.place, one.place)
  end
  return places
end

-- The places of two lists of pairs that ascend and have no place in common.
local function merged(ranges, others)
  local all, one, other = {}, 1, 1
  while ranges[one] or others[other] do
    if others[other] and not (ranges[one] and ranges[one] < others[other]) then
      add_places(all, others[other], others[other + 1])
      other = other + 2
    else
      add_places(all, ranges[one], ranges[one + 1])
      one = one + 2
    end
  end
  return all
end

-- Whether a removal has the message, or the original of the message, of a place.
local function has_place(removal, place)
  return lies_in(removal.ranges, place) or lies_in(places_of(removal.replaced), place)
end

-- The bytes of the text of a message.
local function text_bytes(message)
  local length = string.match(message, '^%d+') or ''
  return math.max(#message - #length - 1 - (tonumber(length) or -1), 0)
end

-- The bytes of the texts of the messages at these places: exact for at most 1,000 messages and 1 MiB, because more
-- would block the server for long. Otherwise an estimate, from one message of each of SAMPLED parts of equal length. Its
-- distance from the beginning of the part varies, because a conversation may have long messages at regular distances.
local function bytes_of(ranges, messages)
  local step, before, sampled, fields = messages > EXACT and messages / SAMPLED or 1, 0, 0, {}
  local function target()
    return math.floor(sampled * step) + sampled * 7919 % math.max(math.floor(step), 1)
  end
  for at = 1, #ranges, 2 do
    local count = ranges[at + 1] - ranges[at] + 1
    while target() < math.min(before + count, messages) do
      fields[#fields + 1] = 'm' .. text_of(ranges[at] + target() - before)
      sampled = sampled + 1
    end
    before = before + count
  end
  local texts, all, described, read = 0, 0, 0, 0
  while read < #fields and all < READ_BYTES do
    local to = math.min(read + 64, #fields)
    for _, message in ipairs(redis.call('HMGET', key, unpack(fields, read + 1, to))) do
      message = message or ''
      local length = string.match(message, '^%d+') or ''
      local size = #length + 1 + (tonumber(length) or -1)
      texts, all, described = texts + math.max(#message - size, 0), all + #message, described + size
    end
    read = to
  end
  for n = read + 1, #fields do
    texts = texts + math.max(redis.call('HSTRLEN', key, fields[n]) - described / read, 0)
  end
  return math.floor(texts / math.max(#fields, 1) * messages + 0.5)
end

-- Deletes the fields of a removal, which may be damaged. The places of its messages are added to the pairs.
local function delete_removal(head, index, stored, gone)
  local n, removal = text_of(index), removal_of(head, stored)
  local fields = {'a' .. n, 'o' .. n}
  if removal and removal.receipt_id ~= '' then
    local named = 'u' .. removal.receipt_id
    local others = {}
    for other in string.gmatch(redis.call('HGET', key, named) or '', '%d+') do
      others[#others + 1] = other ~= n and other or nil
    end
    if #others > 0 then
      redis.call('HSET', key, named, table.concat(others, ' '))
    else
      fields[3] = named
    end
  end
  for _, one in ipairs(removal and removal.replaced or {}) do
    fields[#fields + 1] = original_at(index, one.place)
  end
  in_chunks('HDEL', fields)
  if removal then
    append_without(gone, removal.ranges, removal.taken)
  end
  return removal and removal.bytes or 0
end

-- Drops removals whose time has passed, some at a time, and the oldest while the bytes exceed a bound, of which
-- `sweep_all` deletes the fields.
local function drop_old(head, archive, most_bytes, gone)
  -- Their times need not ascend.
  for _ = 1, math.min(LOOKED_AT, archive.following - archive.first) do
    if archive.look < archive.first or archive.look >= archive.following then
      archive.look = archive.first
    end
    local stored = found_at(archive.look)
    if stored and not kept_cause(stored) then
      archive.bytes = math.max(archive.bytes - delete_removal(head, archive.look, stored, gone), 0)
    end
    archive.look = archive.look + 1
  end
  for _ = 1, math.min(DROPPED_AT_ONCE, archive.following - archive.first) do
    local stored = found_at(archive.first)
    if stored then
      if archive.bytes <= most_bytes and kept_cause(stored) then
        break
      end
      local removal = removal_of(head, stored)
      archive.bytes = math.max(archive.bytes - (removal and removal.bytes or 0), 0)
    end
    archive.first = archive.first + 1
  end
  if archive.first == archive.following then
    archive.bytes = 0
  end
end

-- Keeps a removal by these settings, `microseconds bytes`, as the newest of the archive, and drops old ones. Its
-- replaced messages come with their originals. Returns its index, or nil if it is not kept. Its fields are added to
-- `set`.
local function keep(head, archive, settings, cause, removal, set, gone)
  local time, most_bytes = string.match(settings, '^(%d*) (%d+)$')
  most_bytes = tonumber(most_bytes)
  removal.number, removal.removed_at = head.version + 1, text_of(now())
  local removed = removal.messages - #removal.replaced
  removal.bytes, removal.places = bytes_of(removal.ranges, removed), table.concat(removal.ranges, ' ')
  for _, one in ipairs(removal.replaced) do
    removal.bytes = removal.bytes + text_bytes(one.original)
  end
  local is_over = time ~= '' and tonumber(time) == 0
  -- One that alone is too large is not kept, and drops no earlier one.
  local is_kept = not is_over and removal.bytes <= most_bytes
  drop_old(head, archive, most_bytes - (is_kept and removal.bytes or 0), gone)
  if not is_kept then
    append_without(gone, removal.ranges, removal.taken)
    return nil
  end
  local index = archive.following
  archive.following, archive.bytes = index + 1, archive.bytes + removal.bytes
  for _, one in ipairs(removal.replaced) do
    set[#set + 1], set[#set + 2] = original_at(index, one.place), one.original
  end
  set[#set + 1] = 'a' .. text_of(index)
  set[#set + 1] = stored_removal(cause, time ~= '' and text_of(now() + tonumber(time)) or '', removal)
  if removal.receipt_id ~= '' then
    local named = 'u' .. removal.receipt_id
    local others = redis.call('HGET', key, named)
    set[#set + 1] = named
    set[#set + 1] = (others and others .. ' ' or '') .. text_of(index)
  end
  return index
end

-- As `sweep`, also the fields of dropped removals. The caller stores the state of the archive.
local function sweep_all(head, archive, gone, ranges, most)
  local looked = 0
  while archive and archive.swept < archive.first and looked < LOOKED_AT do
    local stored = found_at(archive.swept)
    if stored then
      delete_removal(head, archive.swept, stored, gone)
    end
    archive.swept, looked = archive.swept + 1, looked + 1
  end
  local left = sweep(gone, ranges, most)
  return archive and archive.swept < archive.first and 1 or left
end

-- The index of the newest removal with a number below this one, or one before the first.
local function index_before(head, archive, number)
  local low, high, newest = archive.first, archive.following - 1, archive.first - 1
  while low <= high do
    local middle = math.floor((low + high) / 2)
    local at, removal = middle, nil
    while at <= high and not removal do
      removal = removal_of(head, found_at(at))
      at = removal and at or at + 1
    end
    if removal and removal.number < number then
      newest, low = at, at + 1
    else
      high = middle - 1
    end
  end
  return newest
end
