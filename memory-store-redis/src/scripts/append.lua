-- Not otherwise: after any write a script is let past `maxmemory`.
if leftover then
  call('UNLINK', key)
  if watched then
    call('HSET', key, 'v', watched)
  end
end

local at, count, all_tokens = FIRST_ARGUMENT, 0, 0
repeat
  local class, messages, tokens = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  count, all_tokens = count + messages, all_tokens + tokens
  local slot = FIRST_CLASS
  local there = head[slot]
  while there and there ~= class do
    slot = slot + 3
    there = head[slot]
  end
  if there then
    head[slot + 1] = head[slot + 1] + messages
    head[slot + 2] = head[slot + 2] + tokens
  else
    head[slot], head[slot + 1], head[slot + 2] = class, messages, tokens
  end
  at = at + 3
-- One argument for each message that was counted: this was the last class.
until #ARGV - at + 1 == count

local last = head[LAST]
head[LAST] = last + count
head[VERSION] = head[VERSION] + 1
head[MESSAGES] = head[MESSAGES] + count
head[TOKENS] = head[TOKENS] + all_tokens
head[APPENDED] = head[APPENDED] + count
-- A registration alone has a TTL.
local has_ttl = head[EXPIRES] ~= '' or watched and not stored
if ttl ~= '' then
  if not time then
    time = tonumber(own_time or string.match(settings, '^%d*'))
  end
  if not time then
    local parts = call('TIME')
    time = parts[1] * 1000000 + parts[2]
  end
  head[EXPIRES] = string.format('%.0f', time + tonumber(ttl))
else
  head[EXPIRES] = ''
end
local first = string.format('%.0f', last + 1)
local after, written = cmsgpack.pack(head), number .. ' ' .. first

if count == 1 then
  call('HSET', key, 'm' .. first, ARGV[at], writer, written, 'h', after)
else
  local fields, n = {}, 0
  for place = last + 1, last + count do
    fields[n + 1] = 'm' .. string.format('%.0f', place)
    fields[n + 2] = ARGV[at]
    n, at = n + 2, at + 1
    if n >= 2000 then
      call('HSET', key, unpack(fields))
      fields, n = {}, 0
    end
  end
  fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4] = writer, written, 'h', after
  call('HSET', key, unpack(fields))
end
if ttl ~= '' then
  call('PEXPIRE', key, math.ceil(tonumber(ttl) / 1000))
elseif has_ttl then
  call('PERSIST', key)
end
