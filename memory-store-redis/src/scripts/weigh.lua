-- KEYS: memory. ARGV 4...: generation, then of each range s if it is to be summarized, e if evicted or w if withdrawn, its
-- first and its last place. Returns how many summaries, how many are summarized, evicted and withdrawn, then of
-- each class its name, messages and tokens; nothing for another generation, and if a message is missing.
local head = open(redis.call('HGET', key, 'h'))
if not head or head.generation ~= ARGV[4] then
  return nil
end
local sums = no_sums()
for at = 5, #ARGV, 3 do
  if weigh(sums, ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])) then
    return nil
  end
end
local answer = {sums.summaries, sums.summarized, sums.evicted, sums.withdrawn}
for class, tally in pairs(sums.classes) do
  answer[#answer + 1] = class
  answer[#answer + 1] = tally[1]
  answer[#answer + 1] = tally[2]
end
return answer
