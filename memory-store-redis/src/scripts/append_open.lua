-- KEYS: memory, lease, and fences where tokens alone are checked. ARGV: settings, field of the writer, number,
-- TTL in microseconds or empty, then of each class its name, messages and tokens, then the
-- messages. Settings are `time alone confirms owner token`, of which the first three begin the ARGV of other
-- scripts, or empty for the usual values: the server's time, live leases, nothing to confirm, no lease.
-- Returns the head; {'D', first or empty, head} for a retry; or a refusal.
--
-- Every message takes this path, so it does only work that is needed each time: the head stays a packed array,
-- the functions of the other scripts are not defined, and values that are the same each time are no
-- arguments, because each argument costs the server as much as some lines of Lua.
local key, call = KEYS[1], redis.call
local FORM, LAST, VERSION, MESSAGES, TOKENS, APPENDED, EXPIRES = 1, 2, 3, 4, 5, 6, 7
local FIRST_CLASS, FIRST_ARGUMENT = 10, 5

local settings, writer, number, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local found = call('HMGET', key, 'h', writer, 'v')
local stored, row, watched = found[1], found[2], found[3]
local own_time = settings == '' and '' or string.match(settings, '^(%d*) 0 [01]  $')
local head, leftover, time, marks
-- A row is `number first`, so that it sorts behind the number itself and before those that follow.
if own_time and stored and (not row or number > row) then
  local ok, array = pcall(cmsgpack.unpack, stored)
  if ok and type(array) == 'table' and array[FORM] == 2 then
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
-- Everything else: a memory that begins or has expired, a lease, a retry, a refusal, damage.
if not head then
  local own_time, alone, confirm, owner, token =
    string.match(settings, '^(%d*) ([01]) ([01]) (%x*) (%d*)$')
  local tokens_alone, confirms = alone == '1', confirm == '1'
