-- KEYS: memory. Returns the records of erasures, newest first.
local stored = redis.call('HMGET', key, 'h', 'x')
local answer, all = {}, open(stored[1]) and tonumber(stored[2]) or 0
for back = 1, math.min(all, ERASURES) do
  answer[back] = redis.call('HGET', key, 'x' .. text_of((all - back) % ERASURES)) or ''
end
return answer
