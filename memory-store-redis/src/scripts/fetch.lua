-- KEYS: memory. ARGV 4...: the snapshot as `generation place id`, of its newest message, places, ascending.
-- Returns of each message that is there its place and itself; nothing for another snapshot.
local generation, newest, id = string.match(ARGV[4], '^(%d+) (%d+) (%x*)$')
local stored = redis.call('HMGET', key, 'h', 'i', 'm' .. newest)
local head = open(stored[1])
if not head or head.generation ~= generation then
  return nil
end
local ranges = ranges_of(head, stored[2])
if not is_there(head, ranges, tonumber(newest), id, stored[3]) then
  return nil
end
-- Ascending, like the places. The field of a removed message may still exist.
local pair, places, fields = 1, {}, {}
for n = 5, #ARGV do
  local place = tonumber(ARGV[n])
  while ranges[pair] and ranges[pair + 1] < place do
    pair = pair + 2
  end
  if ranges[pair] and ranges[pair] <= place then
    places[#places + 1] = place
    fields[#fields + 1] = 'm' .. ARGV[n]
  end
end
local answer = {}
in_chunks('HMGET', fields, function(found, from)
  for n = 1, #found do
    if found[n] then
      answer[#answer + 1] = places[from + n - 1]
      answer[#answer + 1] = found[n]
    end
  end
end)
return answer
