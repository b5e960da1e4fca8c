-- The pushes and counters of an append, and nothing that an append checks. KEYS: list, counters. ARGV: the message
-- with its description, its tokens and its class. Of a message as much is stored as by ours.
redis.call('RPUSH', KEYS[1], ARGV[1])
return {
  redis.call('HINCRBY', KEYS[2], 'messages', 1),
  redis.call('HINCRBY', KEYS[2], 'tokens', ARGV[2]),
  redis.call('HINCRBY', KEYS[2], 'messages:' .. ARGV[3], 1),
  redis.call('HINCRBY', KEYS[2], 'tokens:' .. ARGV[3], ARGV[2]),
  redis.call('HINCRBY', KEYS[2], 'appended', 1),
  redis.call('HINCRBY', KEYS[2], 'version', 1),
}
