-- A memory is one hash, so that it expires, moves and is lost as a whole:
--   h        the head: the fields of `unpacked`, as a packed array, which is quicker than a map
--   i        the present places up to `base`, as pairs `first last first last ...`; after `base` there is no gap
--   g        the places of removed messages whose fields must still be deleted, as pairs
--   m<place> a message: `length flags tokens id created c `, its class of c bytes, its link and its text. The
--            length is that of all between it and the text. The flags are 1 for closed and 2 for a summary.
--            All is in one field, because each field costs the server as much as the text of a short message
--   w<id>    the newest write of a writer: `number first`
--   s<n>     a session writer, in the order of their first writes; each 64th is followed by the time of its write
--   p        the first n, the n after the last, and the newest creation time of pruned session writers, in
--            milliseconds
--   r<n>     a receipt; a ring of the last 16
--   v        the registration of watchers: its deadline in microseconds, and S or P for SPUBLISH or PUBLISH. A
--            memory that does not exist may have this field alone, with a TTL
--   d        the metadata, see `metadata.lua`
--   a, o, u, z: the archive, see `archive.lua`
-- Numbers of 64 bits that are compared are texts of 20 digits, because Lua's numbers have 53 bits.
-- Three locals come before this text: `own_time`, the time in microseconds, empty or nil for the server's;
-- `tokens_alone`, whether leases are stored elsewhere; and `confirms`, whether a retry must write something, so
-- that its confirmation can be waited for. ARGV of every script but an append begins with them.
local FORM, OLDEST_FORM = 3, 2
local RECEIPTS = 16
local CHUNK = 500

local time
local function now()
  if not time then
    time = tonumber(own_time or '') or now_micros()
  end
  return time
end

local function text_of(number)
  return string.format('%.0f', number)
end

local function digits(number)
  return string.format('%020.0f', number)
end

-- The mark of the next flush while automatic flushes are held.
local HELD = '9223372036854775807'

local NO_TOKEN = digits(0)

-- The next generation; after a splice or a clear while the clock is behind, the spread is added.
local function next_generation(generation, spread)
  local following = tonumber(generation) + 1
  return text_of(following <= now() and now() or following + (spread or 0))
end

local function new_head(fence, flush_fence, generation)
  return {
    form = OLDEST_FORM, generation = generation, version = 0, last = 0, base = 0, fence = fence,
    flush_fence = flush_fence, next_flush_at = false, expires = false, messages = 0, tokens = 0,
    summaries = 0, appended = 0, summarized = 0, evicted = 0, cleared = 0, withdrawn = 0, receipts = 0,
    receipt = '', classes = {},
  }
end

-- Unpacks a head, and packs it. The part that an append does not change is one text.
local function unpacked(packed)
  local ok, array = pcall(cmsgpack.unpack, packed)
  if not ok or type(array) ~= 'table' or type(array[1]) ~= 'number' then
    return error('CORRUPT ' .. key .. ' does not hold a memory of ours')
  end
  if array[1] > FORM then
    return error('NEWER ' .. array[1])
  end
  if array[1] < OLDEST_FORM then
    return error('CORRUPT ' .. key .. ' holds a memory in the form of an earlier version; delete the key')
  end
  local sound = #array >= 9 and #array % 3 == 0
  for at = 2, sound and #array or 0 do
    local number = at <= 6 or at > 9 and at % 3 ~= 1
    sound = sound and type(array[at]) == (number and 'number' or 'string')
  end
  if not sound then
    return error('CORRUPT ' .. key .. ' does not hold a memory of ours')
  end
  local head = {
    form = array[1], last = array[2], version = array[3], messages = array[4], tokens = array[5],
    appended = array[6], expires = array[7] ~= '' and array[7], fence = array[8], classes = {},
  }
  local mark
  head.generation, head.base, head.flush_fence, mark, head.summaries, head.summarized, head.evicted,
    head.cleared, head.receipts, head.receipt, head.withdrawn = string.match(array[9],
    '^(%d+) (%d+) (%d+) (%d*) (%d+) (%d+) (%d+) (%d+) (%d+) (%x*) ?(%d*)$')
  if not head.generation then
    return error('CORRUPT ' .. key .. ' does not hold a memory of ours')
  end
  head.next_flush_at = mark ~= '' and mark
  for _, name in ipairs({'base', 'summaries', 'summarized', 'evicted', 'cleared', 'receipts'}) do
    head[name] = tonumber(head[name])
  end
  head.withdrawn = tonumber(head.withdrawn) or 0
  for at = 10, #array, 3 do
    head.classes[array[at]] = {array[at + 1], array[at + 2]}
  end
  return head
end

local function packed(head)
  -- Earlier versions refuse a memory that they would not count right.
  if head.withdrawn > 0 then
    head.form = FORM
  end
  local array = {
    head.form, head.last, head.version, head.messages, head.tokens, head.appended,
    head.expires or '', head.fence,
    table.concat({
      head.generation, text_of(head.base), head.flush_fence, head.next_flush_at or '',
      text_of(head.summaries), text_of(head.summarized), text_of(head.evicted),
      text_of(head.cleared), text_of(head.receipts), head.receipt,
    }, ' ') .. (head.form > 2 and ' ' .. text_of(head.withdrawn) or ''),
  }
  for class, tally in pairs(head.classes) do
    local n = #array
    array[n + 1], array[n + 2], array[n + 3] = class, tally[1], tally[2]
  end
  return cmsgpack.pack(array)
end

-- The stored head if the memory is alive, else nil; and the rest of a memory that has expired.
local function open(stored)
  if not stored then
    return nil
  end
  local head = unpacked(stored)
  if head.expires and tonumber(head.expires) <= now() then
    return nil, head
  end
  return head
end

-- The number of fields, 1 or 0, that are a registration of watchers.
local function registrations(watched)
  return watched and string.find(watched, '^%d+ [SP]$') and 1 or 0
end

-- The head to write, of the stored memory or of a new one; whether it is new; and whether the rest of an
-- expired memory must be deleted. The fences of stale writers outlive the data.
local function open_to_write(stored, fences, watched)
  local head, expired = open(stored)
  -- Checked before the first write, because a script that fails in the middle is not undone.
  local kept = tokens_alone and redis.call('HGET', fences, key)
  if head then
    return head, false, false
  end
  if not expired and redis.call('HLEN', key) ~= registrations(watched) then
    return error('CORRUPT ' .. key .. ' does not hold a memory of ours')
  end
  local fence, flush_fence = NO_TOKEN, NO_TOKEN
  if expired then
    fence, flush_fence = expired.fence, expired.flush_fence
  elseif kept then
    fence, flush_fence = string.match(kept, '^(%d+) (%d+)$')
  end
  return new_head(fence, flush_fence, next_generation(expired and expired.generation or '0')),
    true, expired ~= nil
end

-- The newest token after a write under this lease; else nil, and the refusal.
local function admit(lease, owner, token, newest)
  if owner == '' then
    if not tokens_alone and lease_of(lease) then
      return nil, {'L', redis.call('PTTL', lease)}
    end
    return newest
  end
  if token < newest then
    return nil, {'F', newest}
  end
  if not tokens_alone then
    local holder, _, held = lease_of(lease)
    held = held and digits(tonumber(held))
    if holder ~= owner or held ~= token then
      return nil, {'F', held and held > newest and held or newest}
    end
  end
  return token
end

-- The place of an earlier write's first message, or an empty text, if this write is a retry.
local function earlier(stored, number)
  if stored then
    local newest, first = string.match(stored, '^(%d+) (%d*)$')
    if not newest then
      return error('CORRUPT ' .. key .. ' holds a row of a writer that is not ours')
    end
    if number <= newest then
      return number == newest and first or ''
    end
  end
  return nil
end

-- The table of session writers, if this is a session writer without a record; and the refusal if its record
-- may have been pruned. The writer is `w` and 32 digits.
local function session_of(writer, row, begins)
  if row or string.sub(writer, 2, 9) ~= SESSION then
    return nil
  end
  local marks = not begins and redis.call('HGET', key, 'p') or '0 0 0'
  local forgotten = string.match(marks, '^%d+ %d+ (%d+)$')
  if not forgotten then
    return error('CORRUPT ' .. key .. ' holds a list of writers that is not ours')
  end
  if tonumber(string.sub(writer, 10, 20), 16) <= tonumber(forgotten) then
    return marks, {'O', forgotten}
  end
  return marks
end

local function keep_fences(fences, head)
  if tokens_alone then
    redis.call('HSET', fences, key, head.fence .. ' ' .. head.flush_fence)
  end
end

local function count(head, class, messages, tokens)
  head.messages = head.messages + messages
  head.tokens = head.tokens + tokens
  local tally = head.classes[class]
  if tally then
    tally[1] = tally[1] + messages
    tally[2] = tally[2] + tokens
    if tally[1] <= 0 then
      head.classes[class] = nil
    end
  else
    head.classes[class] = {messages, tokens}
  end
end

local function numbers_of(text)
  local numbers = {}
  for number in string.gmatch(text or '', '%d+') do
    numbers[#numbers + 1] = tonumber(number)
  end
  return numbers
end

-- The most places that can exist, even if some fields were lost. A greater number is damaged data, and would
-- keep the server busy for too long.
local function most_places()
  return 2 * redis.call('HLEN', key) + 1000
end

-- The number of places in these pairs, if each begins after the pair before it (where they ascend) and none is
-- over the last; else nil.
local function places_in(pairs_of, last, ascend)
  local total, before = 0, 0
  for at = 1, #pairs_of, 2 do
    local from, to = pairs_of[at], pairs_of[at + 1]
    if not to or from <= before or to < from or to > last then
      return nil
    end
    total, before = total + to - from + 1, ascend and to or 0
  end
  return total
end

-- The present places, as pairs.
local function ranges_of(head, index)
  local ranges = head.base > 0 and numbers_of(index) or {}
  if head.last > head.base then
    local n = #ranges
    if n > 0 and ranges[n] == head.base then
      ranges[n] = head.last
    else
      ranges[n + 1] = head.base + 1
      ranges[n + 2] = head.last
    end
  end
  if places_in(ranges, head.last, true) ~= head.messages or head.messages > most_places() then
    return error('CORRUPT ' .. key .. ' holds an index of its messages that is not ours')
  end
  return ranges
end

-- The places of removed messages, as pairs in no order; none if the field is damaged.
local function gone_of(head, stored)
  local gone = numbers_of(stored)
  local total = places_in(gone, head.last, false)
  return total and total <= most_places() and gone or {}
end

-- Whether a place is in one of these pairs, which ascend.
local function lies_in(ranges, place)
  local low, high = 1, #ranges / 2
  while low <= high do
    local middle = math.floor((low + high) / 2)
    if ranges[2 * middle] < place then
      low = middle + 1
    elseif ranges[2 * middle - 1] > place then
      high = middle - 1
    else
      return true
    end
  end
  return false
end

-- Whether the stored message at a place has this id, which a reader or a planner saw there; without an id,
-- whether the place was ever assigned. A server that rolled back assigns the place to another message.
local function is_there(head, ranges, place, id, message)
  if id == '' then
    return place <= head.last
  end
  return message and lies_in(ranges, place) and string.match(message, '^%d+ %d %d+ (%x+) ') == id
end

-- Whether the memory is still at this version, `generation place id`. A memory that never had a message is still at
-- that of an absent memory.
local function is_at(head, begins, expected)
  local generation, place, id = string.match(expected, '^(%d+) (%d+) (%x*)$')
  local is_same = generation == (begins and '0' or head.generation)
  local ranges = begins and {} or ranges_of(head, redis.call('HGET', key, 'i'))
  local newest = ranges[#ranges]
  if newest and id ~= '' and newest == tonumber(place) then
    return (newest == head.last or is_same)
      and is_there(head, ranges, newest, id, redis.call('HGET', key, 'm' .. place))
  end
  return not newest and id == '' and (is_same or generation == '0' and head.last == 0)
end

-- The id of the message at the newest place, and its creation time; empty if it was removed or is damaged.
local function newest_of(head)
  local newest = redis.call('HGET', key, 'm' .. text_of(head.last))
  local id, created = string.match(newest or '', '^%d+ %d %d+ (%x+) (%d+) ')
  if not id or #id ~= 32 or string.find(id, '%u') then
    id = ''
  end
  return id, created or ''
end

-- Calls a command on the memory with many fields, some at a time.
local function in_chunks(command, fields, each)
  for from = 1, #fields, CHUNK do
    local to = math.min(from + CHUNK - 1, #fields)
    local answer = redis.call(command, key, unpack(fields, from, to))
    if each then
      each(answer, from)
    end
  end
end

-- Adds up the tallies of the messages at these places: 's' are summarized, 'e' evicted, 'w' withdrawn, and those of 'c' that
-- are not closed yet are collected. Returns a place without a message, if there is one.
local function weigh(sums, kind, first, last)
  local fields = {}
  for place = first, last do
    fields[#fields + 1] = 'm' .. place
  end
  local unknown
  in_chunks('HMGET', fields, function(found, from)
    for n = 1, #found do
      local place = first + from + n - 2
      local before, flags, tokens, class, at
      if found[n] then
        before, flags, tokens, class, at =
          string.match(found[n], '^(%d+ )(%d) (%d+) %x+ %-?%d+ (%d+) ()')
      end
      if not found[n] then
        unknown = unknown or place
      elseif not flags then
        return error('CORRUPT ' .. key .. ' holds a message at place ' .. place .. ' that is not ours')
      elseif kind == 'c' then
        if flags % 2 == 0 then
          local closed = sums.closed
          closed[#closed + 1] = 'm' .. place
          closed[#closed + 1] = before .. (flags + 1) .. string.sub(found[n], #before + 2)
        end
      else
        class, flags = string.sub(found[n], at, at + class - 1), tonumber(flags)
        local tally = sums.classes[class]
        if not tally then
          tally = {0, 0}
          sums.classes[class] = tally
        end
        tally[1], tally[2] = tally[1] + 1, tally[2] + tonumber(tokens)
        local what = flags >= 2 and 'summaries' or kind == 's' and 'summarized'
          or kind == 'w' and 'withdrawn' or 'evicted'
        sums[what] = sums[what] + 1
      end
    end
  end)
  return unknown
end

local function no_sums()
  return {summaries = 0, summarized = 0, evicted = 0, withdrawn = 0, classes = {}, closed = {}}
end

-- Deletes the fields of removed messages, at most this many, and none of present messages.
-- Returns 1 if more are left.
local function sweep(gone, ranges, most)
  local fields, at = {}, 1
  while gone[at] and #fields < most do
    local last = math.min(gone[at + 1], gone[at] + most - #fields - 1)
    for place = gone[at], last do
      fields[#fields + 1] = lies_in(ranges, place) and 'g' or 'm' .. place
    end
    gone[at] = last + 1
    if gone[at] > gone[at + 1] then
      at = at + 2
    end
  end
  if not gone[at] then
    fields[#fields + 1] = 'g'
  end
  in_chunks('HDEL', fields)
  if gone[at] then
    redis.call('HSET', key, 'g', table.concat(gone, ' ', at))
    return 1
  end
  return 0
end
