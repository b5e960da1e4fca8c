-- KEYS: memory. ARGV 4...: generation and place that the reader has come to, a place after which nothing is
-- to be read or empty, how many messages at most, 1 for their descriptions alone, and the id of the message
-- at the reader's place or empty, and how many bytes of messages are enough. Returns {generation, 1 if the page
-- begins at the start although the reader was further, the last place that is there, 1 if there is more, the
-- head, then of each message its place and itself, empty for one that is not there}.
local FEW = 64
local generation, after = ARGV[4], tonumber(ARGV[5])
local begins = generation == '0' and after == 0 and ARGV[9] == ''
local stored = redis.call('HMGET', key, 'h', 'i', 'm' .. ARGV[5])
local head = open(stored[1])
if not head then
  return {'0', begins and 0 or 1, 0, 0, ''}
end
local restarted, ranges = 0, ranges_of(head, stored[2])
if generation ~= head.generation or not is_there(head, ranges, after, ARGV[9], stored[3]) then
  restarted = begins and 0 or 1
  after = 0
end
local last, limit = head.last, tonumber(ARGV[7])
if ARGV[6] ~= '' and restarted == 0 then
  last = math.min(last, tonumber(ARGV[6]))
end
local places, more = {}, 0
for pair = 1, #ranges, 2 do
  for place = math.max(ranges[pair], after + 1), math.min(ranges[pair + 1], last) do
    if #places == limit then
      more = 1
      break
    end
    places[#places + 1] = place
  end
  if more == 1 then
    break
  end
end
local answer, alone = {head.generation, restarted, last, more, stored[1]}, ARGV[8] == '1'
local enough, bytes = tonumber(ARGV[10]), 0
for from = 1, #places, FEW do
  if bytes >= enough then
    answer[4] = 1
    break
  end
  local fields = {}
  for n = from, math.min(from + FEW - 1, #places) do
    fields[#fields + 1] = 'm' .. places[n]
  end
  local found = redis.call('HMGET', key, unpack(fields))
  for n = 1, #fields do
    local message = found[n] or ''
    if alone then
      local length = string.match(message, '^%d+') or ''
      message = string.sub(message, 1, #length + 1 + (tonumber(length) or -1))
    end
    bytes = bytes + #message
    answer[#answer + 1] = places[from + n - 1]
    answer[#answer + 1] = message
  end
end
return answer
