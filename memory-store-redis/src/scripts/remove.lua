-- KEYS: memory, lease, fences, flush lease. ARGV 4...: owner, token, flusher's owner, flusher's token,
-- generation, version and the newest message's id as they were listed. Returns {'A', messages}, {'C'} for a memory that was written
-- since, or a refusal.
local stored = redis.call('HMGET', key, 'h', 'v', 'i')
local watched = stored[2]
if not stored[1] then
  return {'A', 0}
end
local head = unpacked(stored[1])
if ARGV[8] ~= head.generation or tonumber(ARGV[9]) ~= head.version
  or ARGV[10] ~= present_newest(head, stored[3]) then
  return {'C'}
end
local flush_fence, refusal = admit(KEYS[4], ARGV[6], ARGV[7], head.flush_fence)
if not flush_fence then
  return refusal
end
local fence
fence, refusal = admit(KEYS[2], ARGV[4], ARGV[5], head.fence)
if not fence then
  return refusal
end
head.fence, head.flush_fence = fence, flush_fence
keep_fences(KEYS[3], head)
-- The server frees it beside its other work, however large it is.
redis.call('UNLINK', key)
if watched then
  -- As `watch.lua` registers where there is no memory.
  local left = tonumber(string.match(watched, '^%d+') or 0) - now()
  redis.call('HSET', key, 'v', watched)
  redis.call('PEXPIRE', key, math.ceil(math.max(left, 0) / 1000))
end
