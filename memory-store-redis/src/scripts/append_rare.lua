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
  if expected then
    local generation, place, id = string.match(expected, '^(%d+) (%d+) (%x*)$')
    local is_same = generation == (begins and '0' or now_head.generation)
    local ranges = begins and {} or ranges_of(now_head, call('HGET', key, 'i'))
    local newest = ranges[#ranges]
    local is_current = not newest and id == '' and is_same
    if newest and id ~= '' and newest == tonumber(place) then
      is_current = (newest == now_head.last or is_same)
        and is_there(now_head, ranges, newest, id, call('HGET', key, 'm' .. place))
    end
    if not is_current then
      return {'C'}
    end
  end
  if fence ~= now_head.fence then
    now_head.fence = fence
    keep_fences(KEYS[3], now_head)
  end
  head = cmsgpack.unpack(packed(now_head))
end
