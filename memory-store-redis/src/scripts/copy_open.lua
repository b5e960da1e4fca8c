-- For scripts that write a copy: ARGV 4 to 6 are the owner, the token and the id of the copy. Ends the script if there is a
-- memory, with {'A', 1} if this copy made it, else {'X'}; or with a refusal. Afterwards `state` is that of the unfinished copy, or of
-- none; `leftover` is whether it or an expired memory must be deleted first, and `fence` the token after the write.
--
-- An unfinished copy is a hash whose head has a form that no other script reads. Its fields are those of a memory, and
--   c   its state: id and attempt without a space between, generation, fence, flush fence, when it ends, the last place, the last complete removal, the one
--       that is not complete or 0, the last place of that, how many messages of it came, the next index of a removal, the
--       bytes of all complete ones, and how many fields of writers came
--   f   of a memory that was copied: the id of the copy, and the memory that it was forked from, or nothing
local STATE = {
  'last', 'removal', 'open', 'reached', 'came', 'following', 'bytes', 'writers',
}
local owner, token, copy = ARGV[4], ARGV[5], ARGV[6]
local stored = redis.call('HMGET', key, 'h', 'c', 'v', 'f')
local watched, state, leftover = stored[3], nil, false
if stored[1] == UNFINISHED then
  local id, generation, fence, flush_fence, expires, rest =
    string.match(stored[2] or '', '^(%x+) (%d+) (%d+) (%d+) (%d+) ([%d ]+)$')
  local numbers = numbers_of(rest)
  if not id or #id ~= 48 or #numbers ~= #STATE then
    return error('CORRUPT ' .. key .. ' holds a copy that is not ours')
  end
  state = {
    id = string.sub(id, 1, 32), attempt = string.sub(id, 33), generation = generation, fence = fence, flush_fence = flush_fence,
  }
  for n, name in ipairs(STATE) do
    state[name] = numbers[n]
  end
  leftover = tonumber(expires) <= now()
else
  local head, begins, expired = open_to_write(stored[1], KEYS[3], watched)
  if not begins and (head.last > 0 or redis.call('HEXISTS', key, 'd') == 1) then
    if string.match(stored[4] or '', '^%x+') ~= copy then
      return {'X'}
    end
    if confirms then
      redis.call('HSET', key, 'h', stored[1])
    end
    return {'A', 1, 0, 0}
  end
  state = {id = '', generation = head.generation, fence = head.fence, flush_fence = head.flush_fence}
  leftover = expired or not begins
end
local fence, refusal = admit(KEYS[2], owner, token, state.fence)
if not fence then
  return refusal
end

-- Completes the memory: stores these fields with the origin and the head, and sets the TTL.
local function complete(head, origin, set)
  for _, value in ipairs({'f', copy .. ' ' .. origin, 'h', packed(head)}) do
    set[#set + 1] = value
  end
  in_chunks('HSET', set)
  keep_fences(KEYS[3], head)
  if head.expires then
    redis.call('PEXPIRE', key, math.ceil(math.max(tonumber(head.expires) - now(), 1) / 1000))
  else
    redis.call('PERSIST', key)
  end
end
