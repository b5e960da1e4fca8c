-- KEYS: memory. ARGV 4...: the number of a removal or empty, the index of a removal or empty, how many are listed
-- at most, and how many bytes are enough. Returns the generation, the index before which there may be more or 0, then
-- the removals before that number or that index, newest first.
local stored = redis.call('HMGET', key, 'h', 'z')
local head = open(stored[1])
local archive = head and archive_of(head, stored[2])
if not archive then
  return {head and head.generation or '0', 0}
end
local before, limit, enough = archive.following, tonumber(ARGV[6]), tonumber(ARGV[7])
if ARGV[5] ~= '' then
  before = math.min(before, tonumber(ARGV[5]))
elseif ARGV[4] ~= '' then
  before = index_before(head, archive, tonumber(ARGV[4])) + 1
end
local answer, listed, bytes, looked = {head.generation, 0}, 0, 0, 0
while before > archive.first and listed < limit and bytes < enough and looked < CHUNK do
  before, looked = before - 1, looked + 1
  local found = found_at(before)
  if kept_cause(found) then
    answer[#answer + 1] = found
    listed, bytes = listed + 1, bytes + #found
  end
end
answer[2] = before > archive.first and text_of(before) or 0
return answer
