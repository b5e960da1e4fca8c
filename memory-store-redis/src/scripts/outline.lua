-- KEYS: memory. Returns nothing, or the head, and of each message its place and description, empty for
-- one that is not ours.
local stored = redis.call('HMGET', key, 'h', 'i')
local head = open(stored[1])
if not head then
  return nil
end
local answer = {stored[1]}
local ranges, places, fields = ranges_of(head, stored[2]), {}, {}
for pair = 1, #ranges, 2 do
  for place = ranges[pair], ranges[pair + 1] do
    places[#places + 1] = place
    fields[#fields + 1] = 'm' .. place
  end
end
in_chunks('HMGET', fields, function(found, from)
  for n = 1, #found do
    answer[#answer + 1] = places[from + n - 1]
    local message = found[n] and described(found[n])
    answer[#answer + 1] = message and message.meta or ''
  end
end)
return answer
