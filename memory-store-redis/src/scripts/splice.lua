-- KEYS: memory, lease, fences, flush lease. ARGV 4...: owner, token, flusher's owner, flusher's token,
-- generation, receipt's id or empty, receipt, mark of the next flush or empty, whether open calls are given
-- up (1 or 0; also of messages that go), the summary (empty for none), its class and tokens, how
-- many ranges, then of each range, in ascending order, what becomes of it (s summarised, e evicted, c
-- closed), its first and its last place. Returns {'A', head}, {'D', head}, {'C'} for another generation,
-- {'I', place} for a place where no message stands, or a refusal.
local generation, receipt = ARGV[8], ARGV[9]
local stored = redis.call('HMGET', key, 'h', 'i')
local head, begins = open_to_write(stored[1], KEYS[3])
if not begins and receipt ~= '' and receipt == head.receipt then
  if confirms then
    redis.call('HSET', key, 'h', stored[1])
  end
  return {'D', stored[1]}
end
local flush_fence, refusal = head.flush_fence, nil
if ARGV[6] ~= '' then
  flush_fence, refusal = admit(KEYS[4], ARGV[6], ARGV[7], head.flush_fence)
  if not flush_fence then
    return refusal
  end
end
local fence
fence, refusal = admit(KEYS[2], ARGV[4], ARGV[5], head.fence)
if not fence then
  return refusal
end
if begins or generation ~= head.generation then
  return {'C'}
end

-- Everything is looked at before anything is changed.
local places, kinds, fields = {}, {}, {}
local at = 16
for _ = 1, tonumber(ARGV[16]) do
  at = at + 1
  for place = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]) do
    places[#places + 1] = place
    kinds[#kinds + 1] = ARGV[at]
    fields[#fields + 1] = 'm' .. place
  end
  at = at + 2
end
local messages, unknown, damaged = {}, nil, nil
in_chunks('HMGET', fields, function(found, from)
  for n = 1, #found do
    local at = from + n - 1
    local message = found[n] and described(found[n])
    if not found[n] then
      unknown = unknown or places[at]
    elseif not message then
      damaged = damaged or places[at]
    elseif kinds[at] == 'c' then
      message.text = string.sub(found[n], #message.meta + 1)
    end
    messages[at] = message
  end
end)
if unknown then
  return {'I', unknown}
end
if damaged then
  return error('CORRUPT ' .. key .. ' holds a message at place ' .. damaged .. ' that is not ours')
end

local gone, removed, set, summary_at = {}, {}, {}, nil
for n, place in ipairs(places) do
  local kind, message = kinds[n], messages[n]
  if kind == 'c' then
    if message.flags % 2 == 0 then
      set[#set + 1] = 'm' .. place
      set[#set + 1] = (message.flags + 1) .. string.sub(message.meta, 2) .. message.text
    end
  else
    count(head, message.class, -1, -message.tokens)
    if message.flags >= 2 then
      head.summaries = head.summaries - 1
    elseif kind == 's' then
      head.summarised = head.summarised + 1
    else
      head.evicted = head.evicted + 1
    end
    gone[#gone + 1] = 'm' .. place
    if kind == 's' and not summary_at and ARGV[13] ~= '' then
      summary_at = place
    else
      removed[#removed + 1] = place
    end
  end
end
in_chunks('HDEL', gone, nothing)
if summary_at then
  count(head, ARGV[14], 1, tonumber(ARGV[15]))
  head.summaries = head.summaries + 1
  set[#set + 1] = 'm' .. summary_at
  set[#set + 1] = ARGV[13]
end

if #removed > 0 then
  local left, next, ranges = {}, 1, ranges_of(head, stored[2])
  for pair = 1, #ranges, 2 do
    local first, last = ranges[pair], ranges[pair + 1]
    while removed[next] and removed[next] <= last do
      if removed[next] > first then
        left[#left + 1] = text_of(first)
        left[#left + 1] = text_of(removed[next] - 1)
      end
      first = removed[next] + 1
      next = next + 1
    end
    if first <= last then
      left[#left + 1] = text_of(first)
      left[#left + 1] = text_of(last)
    end
  end
  head.base = head.last
  set[#set + 1] = 'i'
  set[#set + 1] = table.concat(left, ' ')
end
if ARGV[12] == '1' then
  head.next_flush_at = false
end
if #places > 0 then
  head.generation = next_generation(head.generation)
end
if receipt ~= '' then
  set[#set + 1] = 'r' .. head.receipts % RECEIPTS
  set[#set + 1] = ARGV[10]
  head.receipts = head.receipts + 1
  head.receipt = receipt
  head.next_flush_at = ARGV[11] ~= '' and ARGV[11]
end
head.version = head.version + 1
head.fence, head.flush_fence = fence, flush_fence
keep_fences(KEYS[3], head)
set[#set + 1] = 'h'
set[#set + 1] = packed(head)
in_chunks('HSET', set, nothing)
return {'A', set[#set]}
