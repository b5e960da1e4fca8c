-- KEYS: memory. Returns what `whole` tells.
return whole({}, open(redis.call('HGET', key, 'h')))
