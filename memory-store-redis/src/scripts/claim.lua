-- KEYS: memory, lease, fences. ARGV 4...: owner, token, name of the memory. Returns {'A'} or a refusal.
local packed = redis.call('HGET', key, 'h')
local head, _, leftover = open_to_write(packed, KEYS[3], ARGV[6])
local fence, refusal = admit(KEYS[2], ARGV[4], ARGV[5], head.fence)
if not fence then
  return refusal
end
-- Not otherwise: after any write a script is let past `maxmemory`.
if leftover then
  redis.call('UNLINK', key)
end
head.fence = fence
head.version = head.version + 1
keep_fences(KEYS[3], ARGV[6], head)
redis.call('HSET', key, 'h', cmsgpack.pack(head))
return {'A'}
