-- KEYS: memory. ARGV 4...: generation, place and id of the reader's cursor, where an empty generation reads from the
-- newest message and an empty id is not compared; how many messages at most; how many bytes of messages are enough.
-- Returns {generation, 1 if the cursor is not valid and the newest messages are returned, 1 if there are older ones,
-- then of each message its place and itself, newest first, empty for one that is not there}.
local FEW = 64
local generation, before, id = ARGV[4], tonumber(ARGV[5]), ARGV[6]
local limit, enough = tonumber(ARGV[7]), tonumber(ARGV[8])
local stored = redis.call('HMGET', key, 'h', 'i', 'm' .. ARGV[5])
local head = open(stored[1])
if not head then
  local begins = generation == '' or generation == '0' and before == 0 and id == ''
  return {'0', begins and 0 or 1, 0}
end
local restarted, ranges = 0, ranges_of(head, stored[2])
if generation == '' then
  before = head.last + 1
elseif generation ~= head.generation or not is_there(head, ranges, before, id, stored[3]) then
  restarted, before = 1, head.last + 1
end
local answer, bytes, read, fields, places = {head.generation, restarted, 0}, 0, 0, {}, {}
local function take()
  local found = #fields > 0 and redis.call('HMGET', key, unpack(fields)) or {}
  for n = 1, #fields do
    local message = found[n] or ''
    bytes = bytes + #message
    answer[#answer + 1] = places[n]
    answer[#answer + 1] = message
  end
  read = read + #fields
  fields, places = {}, {}
end
for pair = #ranges - 1, 1, -2 do
  for place = math.min(ranges[pair + 1], before - 1), ranges[pair], -1 do
    if #fields == FEW then
      take()
    end
    if read + #fields == limit or bytes >= enough then
      answer[3] = 1
      break
    end
    fields[#fields + 1] = 'm' .. place
    places[#places + 1] = place
  end
  if answer[3] == 1 then
    break
  end
end
take()
return answer
