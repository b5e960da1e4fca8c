-- KEYS: memory. ARGV 4...: generation, places. Returns of each message that is there its place and itself;
-- nothing for another generation.
local head = open(redis.call('HGET', key, 'h'))
if not head or head.generation ~= ARGV[4] then
  return nil
end
local fields = {}
for n = 5, #ARGV do
  fields[#fields + 1] = 'm' .. ARGV[n]
end
local answer = {}
in_chunks('HMGET', fields, function(found, from)
  for n = 1, #found do
    if found[n] then
      answer[#answer + 1] = tonumber(ARGV[4 + from + n - 1])
      answer[#answer + 1] = found[n]
    end
  end
end)
return answer
