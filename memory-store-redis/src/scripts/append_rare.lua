  local now_head, begins
  now_head, begins, leftover = open_to_write(stored, KEYS[3], watched)
  local is_forgotten
  marks, is_forgotten = session_of(writer, not begins and row, begins)
  if is_forgotten then
    return is_forgotten
  end
  local first = not begins and earlier(row, number)
  if first then
    if confirms then
      call('HSET', key, 'h', stored)
    end
    return {'D', first, stored}
  end
  local fence, refusal = admit(KEYS[2], owner or '', token, now_head.fence)
  if not fence then
    return refusal
  end
  if expected and not is_at(now_head, begins, expected) then
    return {'C'}
  end
  if fence ~= now_head.fence then
    now_head.fence = fence
    keep_fences(KEYS[3], now_head)
  end
  head = cmsgpack.unpack(packed(now_head))
end
