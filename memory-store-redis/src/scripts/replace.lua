-- KEYS: memory, lease, fences. ARGV 4...: owner, token, writer, number, spread of the generation, the place, the
-- id of the message that must be there, the new message, whose flags are those of the old one, and the index of the newest
-- removal that may name the old one, or empty. Returns {'A', head, 0}, {'D', head, 0}, {'C'} where another message or none is
-- there, {'T', place} where the calls or results are others, {'A', '', index} if older removals from this index on may name it and
-- nothing was changed, or a refusal.
local owner, token, writer, number = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local place, new = ARGV[9], ARGV[11]
local stored = redis.call('HMGET', key, 'h', 'w' .. writer, 'i', 'm' .. place, 'v')
local watched = stored[5]
local head, begins = open_to_write(stored[1], KEYS[3], watched)
local marks, is_forgotten = session_of('w' .. writer, not begins and stored[2], begins)
if is_forgotten then
  return is_forgotten
end
if not begins and earlier(stored[2], number) then
  if confirms then
    redis.call('HSET', key, 'h', stored[1])
  end
  return {'D', stored[1], 0}
end
local fence, refusal = admit(KEYS[2], owner, token, head.fence)
if not fence then
  return refusal
end
if begins or not is_there(head, ranges_of(head, stored[3]), tonumber(place), ARGV[10], stored[4]) then
  return {'C'}
end

local old_description, flags, old_tokens, old_class, old_link = described(stored[4], place)
local before, _, tokens, class, link, new_id, behind = described(new, place)
if link ~= old_link then
  return {'T', place}
end
-- A summary or a cleared tool result whose text stays is still the one that a flush wrote: the records that name it
-- get its new id, which is as long. Only messages without calls have results that a flush clears.
local set = {}
local function text_behind(message, description)
  return string.sub(message, #description + tonumber(description) + 1)
end
local may_be_written = tonumber(flags) >= 2 or link ~= '' and not string.find(link, '^{"calls"')
if may_be_written and text_behind(stored[4], old_description) == text_behind(new, before) then
  local older
  set, older = renamed(head, ARGV[10], new_id, tonumber(ARGV[12]))
  if older then
    return {'A', '', text_of(older)}
  end
end
count(head, old_class, -1, -old_tokens)
count(head, class, 1, tokens)
head.generation = next_generation(head.generation, ARGV[8])
head.next_flush_at = head.next_flush_at == HELD and HELD
head.version = head.version + 1
head.fence = fence
keep_fences(KEYS[3], head)
local after = packed(head)
for _, value in ipairs({'m' .. place, before .. flags .. behind, 'w' .. writer, number .. ' ', 'h', after}) do
  set[#set + 1] = value
end
redis.call('HSET', key, unpack(set))
