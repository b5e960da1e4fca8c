-- KEYS: memory, lease, fences. ARGV 4...: owner, token. Returns {'A'} or a refusal.
local stored = redis.call('HMGET', key, 'h', 'v')
local watched = stored[2]
local head, begins, leftover = open_to_write(stored[1], KEYS[3], watched)
local fence, refusal = admit(KEYS[2], ARGV[4], ARGV[5], head.fence)
if not fence then
  return refusal
end
-- Not otherwise: after any write a script is let past `maxmemory`.
if leftover then
  redis.call('UNLINK', key)
  if watched then
    redis.call('HSET', key, 'v', watched)
  end
end
-- A memory in which nothing was ever written is forgotten in the end; its first message, or its metadata, sets its own
-- TTL.
local day = head.last == 0 and redis.call('HEXISTS', key, 'd') == 0 and 86400000
if day then
  head.expires = text_of(now() + day * 1000)
end
head.fence = fence
head.version = head.version + 1
keep_fences(KEYS[3], head)
redis.call('HSET', key, 'h', packed(head))
if day then
  redis.call('PEXPIRE', key, day)
end
-- Readers see a claim only if it begins the memory.
watched = begins and watched
