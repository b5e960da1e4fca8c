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
local own_time, head, leftover, time, marks
