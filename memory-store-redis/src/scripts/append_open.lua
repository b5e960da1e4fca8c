own_time = settings == '' and '' or string.match(settings, '^(%d*) 0 [01]  $')
-- A row is `number first`, so that it sorts behind the number itself and before those that follow.
if own_time and stored and (not row or number > row) then
  local ok, array = pcall(cmsgpack.unpack, stored)
  if ok and type(array) == 'table' and (array[FORM] == 2 or array[FORM] == 3) then
    if array[EXPIRES] ~= '' then
      time = tonumber(own_time)
      if not time then
        local parts = call('TIME')
        time = parts[1] * 1000000 + parts[2]
      end
    end
    if not time or tonumber(array[EXPIRES]) > time then
      -- Without a holder, if it is reserved for the next in line.
      local lease = call('GET', KEYS[2])
      if not lease or string.byte(lease) == $KEPT_BYTE then
        head = array
        if not row and string.sub(writer, 2, 9) == SESSION then
          marks = call('HGET', key, 'p') or '0 0 0'
          local forgotten = string.match(marks, '^%d+ %d+ (%d+)$')
          -- The code below reports what is wrong with it.
          if not forgotten or tonumber(string.sub(writer, 10, 20), 16) <= tonumber(forgotten) then
            head = nil
          end
        end
      end
    end
  end
end
