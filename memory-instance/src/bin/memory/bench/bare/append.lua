-- The pushes and counters of an append, and nothing that an append checks. KEYS: list, counters. ARGV: description
-- and text of the message, its tokens and its class. Of a message as much is stored as by ours.
redis.call('RPUSH', KEYS[1], ARGV[1], ARGV[2])
return {
  redis.call('HINCRBY', KEYS[2], 'messages', 1),
  redis.call('HINCRBY', KEYS[2], 'tokens', ARGV[3]),
  redis.call('HINCRBY', KEYS[2], 'messages:' .. ARGV[4], 1),
  redis.call('HINCRBY', KEYS[2], 'tokens:' .. ARGV[4], ARGV[3]),
  redis.call('HINCRBY', KEYS[2], 'appended', 1),
  redis.call('HINCRBY', KEYS[2], 'version', 1),
}
