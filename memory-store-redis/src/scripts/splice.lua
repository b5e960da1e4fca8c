-- KEYS: memory, lease, fences, flush lease. ARGV 4...: owner, token, flusher's owner, flusher's token,
-- the snapshot as `generation place id spread`, of its newest message, receipt's id or empty, receipt, mark of
-- the next flush or empty, w if messages are withdrawn, else whether the mark of the last flush is removed (1 or 0), the
-- summary (empty for none), its class and tokens, `microseconds bytes` of the archive (empty for none;
-- microseconds are empty for no end), the number of ranges, the number of replaced messages, of each of these, in
-- ascending order, its place and the new message, whose flags are those of the old one, then of each range, in
-- ascending order, its effect (s summarized, e evicted, w withdrawn, c closed), its first and its last place; a capital letter means that
-- its tallies follow. With an archive, ranges of messages that are both closed and removed follow in a second order.
-- Then of all these: the numbers of summaries, summarized, evicted and withdrawn, and of each class its name,
-- messages and tokens. Returns {'A', head, more}, where 1 is more that is to be swept, {'D', head, more},
-- {'C'} for another snapshot, {'I', place} for a place without a message, {'T', place} where the calls or results of a
-- new message are others, {'S'} for one with the id of the old one, or a refusal.
local generation, newest, id, spread = string.match(ARGV[8], '^(%d+) (%d+) (%x*) (%d+)$')
local receipt = ARGV[9]
local stored = redis.call('HMGET', key, 'h', 'i', 'g', 'm' .. newest, 'v', 'z')
local watched = stored[5]
local head, begins = open_to_write(stored[1], KEYS[3], watched)
if not begins and receipt ~= '' and receipt == head.receipt then
  if confirms then
    redis.call('HSET', key, 'h', stored[1])
  end
  return {'D', stored[1], stored[3] and 1 or 0}
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
local ranges, pair, at = ranges_of(head, stored[2]), 1, 19
if not is_there(head, ranges, tonumber(newest), id, stored[4])
  or ARGV[12] == 'w' and (ranges[#ranges] or 0) > tonumber(newest) then
  return {'C'}
end
local removed, places, summary_at, sums = {}, {}, nil, no_sums()
local archive, archives, cause = archive_of(head, stored[6]), ARGV[16] ~= '', 'w'
local replaced, fields = {}, {}
for n = 1, tonumber(ARGV[18]) do
  local place = tonumber(ARGV[at])
  if not lies_in(ranges, place) then
    return {'I', ARGV[at]}
  end
  replaced[n], fields[n] = {place = place, new = ARGV[at + 1]}, 'm' .. ARGV[at]
  at, cause = at + 2, 'f'
end
in_chunks('HMGET', fields, function(found, from)
  for n = 1, #found do
    replaced[from + n - 1].original = found[n]
  end
end)
local replaced_tokens = 0
for _, one in ipairs(replaced) do
  if not one.original then
    return {'I', text_of(one.place)}
  end
  local _, flags, old_tokens, old_class, old_link, old_id = described(one.original, one.place)
  local before, _, tokens, class, link, id, behind = described(one.new, one.place)
  if link ~= old_link then
    return {'T', text_of(one.place)}
  elseif id == old_id then
    return {'S'}
  end
  one.id, one.old_tokens, one.old_class, one.tokens, one.class = id, old_tokens, old_class, tokens, class
  one.new = before .. flags .. behind
  replaced_tokens = replaced_tokens + old_tokens
end
for _ = 1, tonumber(ARGV[17]) do
  local kind, first, last = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  at = at + 3
  -- The second order begins.
  if ranges[pair] and ranges[pair] > first then
    pair = 1
  end
  local covered = first
  while covered <= last do
    while ranges[pair] and ranges[pair + 1] < covered do
      pair = pair + 2
    end
    if not ranges[pair] or ranges[pair] > covered then
      return {'I', covered}
    end
    covered = ranges[pair + 1] + 1
  end
  local lower = string.lower(kind)
  if lower ~= 'c' then
    add_places(places, first, last)
    cause = lower == 'w' and cause or 'f'
  end
  local unknown = kind == lower and weigh(sums, kind, first, last)
  if unknown then
    return {'I', unknown}
  end
  if lower == 's' and not summary_at and ARGV[13] ~= '' then
    summary_at, first = first, first + 1
  end
  if lower ~= 'c' and first <= last then
    removed[#removed + 1] = first
    removed[#removed + 1] = last
  end
end
if ARGV[at] then
  sums.summaries = sums.summaries + tonumber(ARGV[at])
  sums.summarized = sums.summarized + tonumber(ARGV[at + 1])
  sums.evicted = sums.evicted + tonumber(ARGV[at + 2])
  sums.withdrawn = sums.withdrawn + tonumber(ARGV[at + 3])
  for class = at + 4, #ARGV, 3 do
    sums.classes[ARGV[class]] = {tonumber(ARGV[class + 1]), tonumber(ARGV[class + 2])}
  end
end
-- A server that came back with older data may have other messages in this generation.
for class, tally in pairs(sums.classes) do
  local there = head.classes[class] or {0, 0}
  if tally[1] > there[1] or tally[2] > there[2] then
    return {'C'}
  end
end
if sums.summaries > head.summaries then
  return {'C'}
end

for class, tally in pairs(sums.classes) do
  count(head, class, -tally[1], -tally[2])
end
for _, one in ipairs(replaced) do
  count(head, one.old_class, -1, -one.old_tokens)
  count(head, one.class, 1, one.tokens)
end
head.summaries = head.summaries - sums.summaries
head.summarized = head.summarized + sums.summarized
head.evicted = head.evicted + sums.evicted
head.withdrawn = head.withdrawn + sums.withdrawn
local set, gone, left = sums.closed, gone_of(head, stored[3]), ranges
if archives and #places + #replaced > 0 then
  archive = archive or new_archive()
  head.form = FORM
  local all = {#replaced, replaced_tokens}
  for _, tally in pairs(sums.classes) do
    all = {all[1] + tally[1], all[2] + tally[2]}
  end
  local index = keep(head, archive, ARGV[16], cause, {
    ranges = places, messages = all[1], tokens = all[2], taken = summary_at or 0,
    summary = summary_at and string.match(ARGV[13], '^%d+ %d %d+ (%x+) ') or '', summaries = sums.summaries,
    summarized = sums.summarized, evicted = sums.evicted, withdrawn = sums.withdrawn, receipt_id = receipt,
    receipt = ARGV[10], classes = sums.classes, replaced = replaced,
  }, set, gone)
  if index and summary_at then
    local taken = redis.call('HGET', key, 'm' .. summary_at)
    for n = 1, #set, 2 do
      taken = set[n] == 'm' .. summary_at and set[n + 1] or taken
    end
    set[#set + 1] = 'o' .. text_of(index)
    set[#set + 1] = taken or ''
  end
  if not index then
    -- Those that were closed are deleted too.
    local closed = set
    set = {}
    for n = 1, #closed, 2 do
      if not lies_in(places, tonumber(string.sub(closed[n], 2))) then
        set[#set + 1], set[#set + 2] = closed[n], closed[n + 1]
      end
    end
  end
end
if archive and not archives then
  drop_old(head, archive, math.huge, gone)
end
for _, one in ipairs(replaced) do
  set[#set + 1], set[#set + 2] = 'm' .. text_of(one.place), one.new
end
if summary_at then
  count(head, ARGV[14], 1, tonumber(ARGV[15]))
  head.summaries = head.summaries + 1
  set[#set + 1] = 'm' .. summary_at
  set[#set + 1] = ARGV[13]
end

if #removed > 0 then
  local next = 1
  left = {}
  for pair = 1, #ranges, 2 do
    local first, last = ranges[pair], ranges[pair + 1]
    while removed[next] and removed[next] <= last do
      if removed[next] > first then
        left[#left + 1] = first
        left[#left + 1] = removed[next] - 1
      end
      first = math.max(first, removed[next + 1] + 1)
      if removed[next + 1] > last then
        break
      end
      next = next + 2
    end
    if first <= last then
      left[#left + 1] = first
      left[#left + 1] = last
    end
  end
  head.base = head.last
  set[#set + 1] = 'i'
  set[#set + 1] = table.concat(left, ' ')
  for n = 1, archives and 0 or #removed do
    gone[#gone + 1] = removed[n]
  end
end
if ARGV[12] ~= '0' then
  head.next_flush_at = head.next_flush_at == HELD and HELD
end
if tonumber(ARGV[17]) + #replaced > 0 then
  head.generation = next_generation(head.generation, spread)
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
-- The first write, because a full server refuses a script whose first write adds something.
local more = sweep_all(head, archive, gone, left, PART)
keep_fences(KEYS[3], head)
if archive then
  set[#set + 1] = 'z'
  set[#set + 1] = state_of(archive)
end
set[#set + 1] = 'h'
set[#set + 1] = packed(head)
in_chunks('HSET', set)
