-- KEYS: memory. ARGV 4...: generation and place that the reader has come to, a place after which nothing is
-- to be read or empty, how many messages at most, 1 for their descriptions alone, and the id of the message
-- at the reader's place or empty, how many bytes of messages are enough, and of each batch that the reader has already its first place, its last place
-- and the id of the message there, in ascending order. Returns
-- {generation, 1 if the page begins at the start although the reader was further, the last place that is there,
-- 1 if there is more, the head, the numbers of the batches that are stored as the reader has them and are passed
-- over, then of each other message its place and itself, empty for one that is not there}.
local generation, after = ARGV[4], tonumber(ARGV[5])
local begins = generation == '0' and after == 0 and ARGV[9] == ''
local asked = {'h', 'i', 'm' .. ARGV[5]}
for n = 12, #ARGV, 3 do
  asked[#asked + 1] = 'm' .. ARGV[n]
end
local stored = redis.call('HMGET', key, unpack(asked))
local head = open(stored[1])
if not head then
  return {'0', begins and 0 or 1, 0, 0, '', ''}
end
local restarted, ranges, known = 0, ranges_of(head, stored[2]), {}
if generation ~= head.generation or not is_there(head, ranges, after, ARGV[9], stored[3]) then
  restarted = begins and 0 or 1
  after = 0
elseif #ARGV > 10 then
  for n = 11, #ARGV, 3 do
    local place, number = tonumber(ARGV[n + 1]), (n - 11) / 3
    if is_there(head, ranges, place, ARGV[n + 2], stored[4 + number]) then
      known[#known + 1] = {first = tonumber(ARGV[n]), last = place, number = number}
    end
  end
end
local last, limit = head.last, tonumber(ARGV[7])
if ARGV[6] ~= '' and restarted == 0 then
  last = math.min(last, tonumber(ARGV[6]))
end
local places, more, next_known, passed = {}, 0, 1, {}
for pair = 1, #ranges, 2 do
  local place, to = math.max(ranges[pair], after + 1), math.min(ranges[pair + 1], last)
  while place <= to do
    local batch = known[next_known]
    while batch and batch.first < place do
      next_known = next_known + 1
      batch = known[next_known]
    end
    if batch and batch.first == place and batch.last <= to then
      passed[#passed + 1] = batch
      place = batch.last + 1
    elseif #places == limit then
      more = 1
      break
    else
      places[#places + 1] = place
      place = place + 1
    end
  end
  if more == 1 then
    break
  end
end
local answer, alone = {head.generation, restarted, last, more, stored[1], ''}, ARGV[8] == '1'
local enough, from, bytes, unread = tonumber(ARGV[10]), 1, 0, nil
while from <= #places do
  if bytes >= enough then
    answer[4] = 1
    unread = places[from]
    break
  end
  -- The sizes of whole messages first, so that no more is read than is enough.
  local fields = {}
  repeat
    local field = 'm' .. places[from + #fields]
    if not alone then
      bytes = bytes + redis.call('HSTRLEN', key, field)
    end
    fields[#fields + 1] = field
  until bytes >= enough or #fields == 64 or from + #fields > #places
  local found = redis.call('HMGET', key, unpack(fields))
  for n = 1, #fields do
    local message = found[n] or ''
    if alone then
      local length = string.match(message, '^%d+') or ''
      message = string.sub(message, 1, #length + 1 + (tonumber(length) or -1))
      bytes = bytes + #message
    end
    answer[#answer + 1] = places[from + n - 1]
    answer[#answer + 1] = message
  end
  from = from + #fields
end
-- A batch after this part is compared again with the next one: the memory may change between them.
local numbers = {}
for n = 1, #passed do
  if not unread or passed[n].last < unread then
    numbers[#numbers + 1] = passed[n].number
  end
end
answer[6] = table.concat(numbers, ' ')
return answer
