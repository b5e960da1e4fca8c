  local now_head
  now_head, begins, leftover = open_to_write(stored[1], KEYS[3])
  local first = not begins and earlier(stored[2], ARGV[7])
  if first then
    if confirms then
      redis.call('HSET', key, 'h', stored[1])
    end
    return {'D', first, stored[1]}
  end
  local refusal
  fence, refusal = admit(KEYS[2], ARGV[4], ARGV[5], now_head.fence)
  if not fence then
    return refusal
  end
  if fence ~= now_head.fence then
    now_head.fence = fence
    keep_fences(KEYS[3], now_head)
  end
  head = cmsgpack.unpack(packed(now_head))
end
