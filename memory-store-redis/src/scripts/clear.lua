-- KEYS: memory, lease, fences. ARGV 4...: owner, token, writer, number, spread of the generation, and
-- `microseconds bytes` of the archive (empty for none; microseconds are empty for no end), the expected version or empty
-- (without a batch, all messages must be those that its reader has read). To append a batch in the same step: its TTL in
-- microseconds or empty, the number of its classes, of each class its name, messages and tokens, then the messages.
-- Returns {'A', head, more, microseconds, removed messages, their tokens, 1 if they are archived or 0}, where 1 is more that
-- is to be swept, {'D', head, more, place of the first message or empty} or a refusal.
local expected, ttl, classes = ARGV[10], ARGV[11], tonumber(ARGV[12])
local owner, token, writer, number = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local stored = redis.call('HMGET', key, 'h', 'w' .. writer, 'i', 'g', 'v', 'z')
local watched = stored[5]
local head, begins, leftover = open_to_write(stored[1], KEYS[3], watched)
local marks, is_forgotten = session_of('w' .. writer, not begins and stored[2], begins)
if is_forgotten then
  return is_forgotten
end
local before = not begins and earlier(stored[2], number)
if before then
  if confirms then
    redis.call('HSET', key, 'h', stored[1])
  end
  return {'D', stored[1], (stored[4] or stored[6]) and 1 or 0, before}
end
local fence, refusal = admit(KEYS[2], owner, token, head.fence)
if not fence then
  return refusal
end
if expected ~= '' then
  local is_same = string.match(expected, '^%d+') == (begins and '0' or head.generation)
  if not (classes or is_same) or not is_at(head, begins, expected) then
    return {'C'}
  end
end
local gone, set, archive, index = {}, {}, nil, nil
local messages, tokens = head.messages, head.tokens
if leftover then
  redis.call('UNLINK', key)
  if watched then
    redis.call('HSET', key, 'v', watched)
  end
elseif not begins then
  -- Writers are kept, because a retry must be recognized after a clear too.
  local fields = {'i'}
  gone = gone_of(head, stored[4])
  local sound, ranges = pcall(ranges_of, head, stored[3])
  local knows_archive
  knows_archive, archive = pcall(archive_of, head, stored[6])
  sound = sound and knows_archive and (not stored[4] or #gone > 0)
  if sound and ARGV[9] ~= '' and #ranges > 0 then
    head.form, archive = FORM, archive or new_archive()
    index = keep(head, archive, ARGV[9], 'c', {
      ranges = ranges, messages = messages, tokens = tokens, taken = 0, summary = '', summaries = 0,
      summarized = 0, evicted = 0, withdrawn = 0, receipt_id = '', receipt = '', classes = {}, replaced = {},
    }, set, gone)
  elseif sound then
    for _, place in ipairs(ranges) do
      gone[#gone + 1] = place
    end
  end
  if sound and ARGV[9] == '' and archive then
    archive.first, archive.bytes = archive.following, 0
  end
  -- Damaged data can still be cleared, with its archive.
  for _, field in ipairs(sound and {} or redis.call('HKEYS', key)) do
    if string.match(field, '^[mao]%d+$') or string.match(field, '^o%d+%.%d+$') or string.match(field, '^u%x+$') or field == 'z' then
      fields[#fields + 1] = field
    end
  end
  archive = sound and archive
  for receipt = 0, RECEIPTS - 1 do
    fields[#fields + 1] = 'r' .. receipt
  end
  in_chunks('HDEL', fields)
end
head.cleared = head.cleared + head.messages - head.summaries
head.messages, head.tokens, head.summaries, head.classes = 0, 0, 0, {}
head.base, head.receipts, head.receipt, head.next_flush_at = head.last, 0, '', false
head.generation = next_generation(head.generation, ARGV[8])
head.version = head.version + 1
head.fence = fence
-- A memory in which nothing was ever written is forgotten in the end; its first message, or its metadata, sets its own
-- TTL.
local day = not classes and head.last == 0 and redis.call('HEXISTS', key, 'd') == 0 and 86400000
if day then
  head.expires = text_of(now() + day * 1000)
end
keep_fences(KEYS[3], head)
local first = ''
if classes then
  first = text_of(head.last + 1)
  local at = 13
  for _ = 1, classes do
    count(head, ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]))
    at = at + 3
  end
  head.appended = head.appended + #ARGV - at + 1
  for argument = at, #ARGV do
    head.last = head.last + 1
    set[#set + 1] = 'm' .. text_of(head.last)
    set[#set + 1] = ARGV[argument]
  end
  head.expires = ttl ~= '' and text_of(now() + tonumber(ttl))
end
local left = sweep_all(head, archive, gone, {}, PART)
local after = packed(head)
if archive then
  set[#set + 1] = 'z'
  set[#set + 1] = state_of(archive)
end
in_chunks('HSET', set)
redis.call('HSET', key, 'h', after, 'w' .. writer, number .. ' ' .. first)
if day then
  redis.call('PEXPIRE', key, day)
elseif classes and ttl ~= '' then
  redis.call('PEXPIRE', key, math.ceil(tonumber(ttl) / 1000))
elseif classes then
  redis.call('PERSIST', key)
end
