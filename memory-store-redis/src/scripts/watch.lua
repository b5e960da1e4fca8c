-- KEYS: memory. ARGV 4...: for how many microseconds the watchers are registered, S or P for the channel. Registers
-- them, also where there is no memory. Returns {generation, version, ms until the key expires, negative if it does
-- not}, with 0 twice if there is no memory.
local stored = redis.call('HMGET', key, 'h', 'v')
local head = open(stored[1])
if not stored[1] and redis.call('HLEN', key) ~= registrations(stored[2]) then
  return error('CORRUPT ' .. key .. ' does not hold a memory of ours')
end
redis.call('HSET', key, 'v', text_of(now() + tonumber(ARGV[4])) .. ' ' .. ARGV[5])
-- Also where a memory has ended and is not deleted yet: the registration would end with it.
if not head then
  redis.call('PEXPIRE', key, math.ceil(tonumber(ARGV[4]) / 1000))
end
return {head and head.generation or '0', head and head.version or 0, redis.call('PTTL', key)}
