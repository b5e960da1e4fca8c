-- KEYS: memory. ARGV 4...: which writers to list: 0 none, 1 all, 2 those of sessions and of the fields that follow. Returns
-- nothing without a memory; else the head, the list of session writers, the origin, the metadata, the id of the message at the last
-- place if it is present or empty, the number of receipts, each, newest first,
-- the number of records of erasures, each, newest first, the number of session writers, the id of each in the order of their
-- first writes, then of each listed writer its field and its newest write.
local stored = redis.call('HMGET', key, 'h', 'p', 'x', 'f', 'd', 'i')
local head = open(stored[1])
if not head then
  return nil
end
local marks = stored[2] or '0 0 0'
local newest = present_newest(head, stored[6])
local answer = {stored[1], marks, stored[4] or '', stored[5] or '', newest, 0}
local function add(value)
  answer[#answer + 1] = value
end
for back = 1, math.min(head.receipts, RECEIPTS) do
  add(redis.call('HGET', key, 'r' .. (head.receipts - back) % RECEIPTS) or '')
end
answer[6] = #answer - 6
local all, at = tonumber(stored[3]) or 0, #answer + 1
add(0)
for back = 1, math.min(all, ERASURES) do
  add(redis.call('HGET', key, 'x' .. text_of((all - back) % ERASURES)) or '')
end
answer[at], at = #answer - at, #answer + 1
add(0)
local fields = {}
if ARGV[4] ~= '0' then
  local first, following = string.match(marks, '^(%d+) (%d+) %d+$')
  for n = tonumber(first or 0), tonumber(following or 0) - 1 do
    local id = string.sub(redis.call('HGET', key, 's' .. text_of(n)) or '', 1, 32)
    add(id)
    fields[#fields + 1] = 'w' .. id
  end
end
answer[at] = #answer - at
if ARGV[4] == '1' then
  fields = {}
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.byte(field) == 119 then
      fields[#fields + 1] = field
    end
  end
end
for n = 5, #ARGV do
  fields[#fields + 1] = ARGV[n]
end
in_chunks('HMGET', fields, function(found, from)
  for n = 1, #found do
    if found[n] then
      add(fields[from + n - 1])
      add(found[n])
    end
  end
end)
return answer
