-- Keeps a new session writer in the list of those that may be forgotten, and forgets old ones, 64 at a time:
-- none that came less than ten minutes ago by the server's clock, and none of the last 64. Expects `key`,
-- `call`, `writer`, `marks`, `time` or nothing, and `most`, how many times 64 may be forgotten.
local first, following, forgotten = string.match(marks, '^(%d+) (%d+) (%d+)$')
local place, entry = following, string.sub(writer, 2)
first, following = tonumber(first), tonumber(following) + 1
local is_full = following % 64 == 0
if is_full or most > 1 then
  if not time then
    local parts = call('TIME')
    time = parts[1] * 1000000 + parts[2]
  end
  if is_full then
    entry = entry .. ' ' .. string.format('%.0f', time)
  end
  while most > 0 and following - first >= 128 do
    local fields, newest = {}, tonumber(forgotten)
    for n = first, first + 63 do
      fields[#fields + 1] = 's' .. string.format('%.0f', n)
    end
    local old = call('HMGET', key, unpack(fields))
    if (tonumber(string.sub(old[64] or '', 34)) or 0) + 600000000 > time then
      break
    end
    for n = 1, 64 do
      local id = string.sub(old[n] or '', 1, 32)
      fields[#fields + 1] = 'w' .. id
      newest = math.max(newest, tonumber(string.sub(id, 9, 19), 16) or 0)
    end
    call('HDEL', key, unpack(fields))
    first, most, forgotten = first + 64, most - 1, string.format('%.0f', newest)
  end
end
call('HSET', key, 's' .. place, entry, 'p',
  string.format('%.0f %.0f %s', first, following, forgotten))
