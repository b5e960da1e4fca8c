-- KEYS: memory, lease, fences. ARGV 4...: owner, token, the id of the copy, the lifetime of an unfinished copy in
-- milliseconds with the attempt after a space, and the step with its arguments:
--   begin
--   messages: of each message its place and itself, ascending
--   archived: the number of the removal, how many messages it has, the removal with its last messages (else empty), the id
--     of its receipt or empty, the bytes of its messages, then of each message its place, where it is kept (m, or o for the
--     one whose place the summary took, or r for one that was replaced) and itself
--   writers: how many of these fields came before, then fields of writers with their values
--   finish: the number of removals, the number of fields of writers, the numbers of the head as `FINISHED` lists them, the texts as well, the number of
--     classes, of each its name, messages and tokens, then the other fields of the memory with their values
--   discard: the generation at which the copy must be, or empty for any
-- Returns {'A', 1 if the copy is complete, the last place, the last complete removal}, {'X'} if there is a memory, {'C'} if
-- another copy, another attempt or none is under way, {'B'} if the copy lacks messages, or a refusal.
local FINISHED = {
  'version', 'last', 'messages', 'tokens', 'summaries', 'appended', 'summarized', 'evicted', 'cleared', 'withdrawn',
  'receipts',
}
local lifetime, attempt = string.match(ARGV[7], '^(%d+) (%x+)$')
local step = ARGV[8]
lifetime = tonumber(lifetime)
-- Deletes what is there, except the registration of watchers.
local function unlink()
  redis.call('UNLINK', key)
  if watched then
    local left = tonumber(string.match(watched, '^%d+') or 0) - now()
    redis.call('HSET', key, 'v', watched)
    redis.call('PEXPIRE', key, math.ceil(math.max(left, 0) / 1000))
  end
end
if step == 'discard' then
  if stored[1] == UNFINISHED then
    if ARGV[9] ~= '' and ARGV[9] ~= state.generation then
      return {'C'}
    end
    unlink()
    if tokens_alone then
      redis.call('HSET', KEYS[3], key, fence .. ' ' .. state.flush_fence)
    end
  end
  return {'A', 0, 0, 0}
end
if leftover or state.id ~= copy then
  if step ~= 'begin' then
    return {'C'}
  end
  if leftover or state.id ~= '' then
    unlink()
  end
  state = {
    id = copy, attempt = attempt, generation = state.generation, fence = fence, flush_fence = state.flush_fence, last = 0, removal = 0,
    open = 0, reached = 0, came = 0, following = 1, bytes = 0, writers = 0,
  }
end
if step == 'begin' then
  state.attempt = attempt
elseif state.attempt ~= attempt then
  return {'C'}
end
state.generation, state.fence = next_generation(state.generation), fence
local set = {}
local function add(field, value)
  set[#set + 1], set[#set + 2] = field, value
end
if step == 'messages' then
  local places = numbers_of(redis.call('HGET', key, 'i') or '')
  for at = 9, #ARGV, 2 do
    local place = tonumber(ARGV[at])
    if place > state.last then
      add('m' .. ARGV[at], ARGV[at + 1])
      add_places(places, place, place)
      state.last = place
    end
  end
  add('i', table.concat(places, ' '))
elseif step == 'archived' and tonumber(ARGV[9]) > state.removal then
  local number, index = tonumber(ARGV[9]), text_of(state.following)
  if state.open ~= 0 and state.open ~= number then
    return {'C'}
  end
  local came, reached = state.came, state.reached
  for at = 14, #ARGV, 3 do
    local place, kept = tonumber(ARGV[at]), ARGV[at + 1]
    if place > reached then
      local field = kept == 'm' and 'm' .. ARGV[at] or 'o' .. index .. (kept == 'r' and '.' .. ARGV[at] or '')
      add(field, ARGV[at + 2])
      came, reached = came + 1, place
    end
  end
  if ARGV[11] ~= '' then
    if came ~= tonumber(ARGV[10]) then
      return {'B'}
    end
    add('a' .. index, ARGV[11])
    if ARGV[12] ~= '' then
      local others = redis.call('HGET', key, 'u' .. ARGV[12])
      add('u' .. ARGV[12], (others and others .. ' ' or '') .. index)
    end
    state.removal, state.following, state.bytes = number, state.following + 1, state.bytes + tonumber(ARGV[13])
    state.open, state.reached, state.came = 0, 0, 0
  else
    state.open, state.reached, state.came = number, reached, came
  end
elseif step == 'writers' then
  local before, came = tonumber(ARGV[9]), (#ARGV - 9) / 2
  if before > state.writers then
    return {'B'}
  end
  for at = 10, #ARGV, 2 do
    add(ARGV[at], ARGV[at + 1])
  end
  state.writers = math.max(state.writers, before + came)
elseif step == 'finish' then
  local head = new_head(fence, state.flush_fence, state.generation)
  local at = 11
  for _, name in ipairs(FINISHED) do
    head[name], at = tonumber(ARGV[at]), at + 1
  end
  head.expires, head.next_flush_at, head.receipt = ARGV[at] ~= '' and ARGV[at], ARGV[at + 1] ~= '' and ARGV[at + 1], ARGV[at + 2]
  local origin, classes = ARGV[at + 3], tonumber(ARGV[at + 4])
  at = at + 5
  for _ = 1, classes do
    head.classes[ARGV[at]], at = {tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])}, at + 3
  end
  local places = numbers_of(redis.call('HGET', key, 'i') or '')
  if state.open ~= 0 or state.following - 1 ~= tonumber(ARGV[9]) or state.writers ~= tonumber(ARGV[10])
    or places_in(places, head.last, true) ~= head.messages then
    return {'B'}
  end
  head.base = head.last
  if state.following > 1 then
    head.form = FORM
    add('z', state_of({swept = 1, first = 1, following = state.following, look = 1, bytes = state.bytes}))
  end
  for field = at, #ARGV, 2 do
    add(ARGV[field], ARGV[field + 1])
  end
  redis.call('HDEL', key, 'c')
  complete(head, origin, set)
end
if step ~= 'finish' then
  local numbers = {}
  for n, name in ipairs(STATE) do
    numbers[n] = text_of(state[name])
  end
  add('h', UNFINISHED)
  add('c', table.concat({
    copy .. attempt, state.generation, fence, state.flush_fence, text_of(now() + lifetime * 1000), table.concat(numbers, ' '),
  }, ' '))
  in_chunks('HSET', set)
  redis.call('PEXPIRE', key, lifetime)
  if tokens_alone then
    redis.call('HSET', KEYS[3], key, fence .. ' ' .. state.flush_fence)
  end
  -- There is nothing to read before it is complete.
  watched = false
end
