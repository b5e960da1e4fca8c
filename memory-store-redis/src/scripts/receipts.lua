-- KEYS: memory. Returns the receipts, newest first.
local head = open(redis.call('HGET', key, 'h'))
local answer = {}
if head then
  for back = 1, math.min(head.receipts, RECEIPTS) do
    answer[back] = redis.call('HGET', key, 'r' .. (head.receipts - back) % RECEIPTS) or ''
  end
end
return answer
