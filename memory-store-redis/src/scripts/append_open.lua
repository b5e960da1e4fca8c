-- KEYS: memory, lease, fences. ARGV 4...: owner, token, field of the writer, number, TTL in microseconds or
-- empty, how many classes, then of each its name, messages and tokens, then of each message its meta
-- and text. Returns the head; {'D', first or empty, head} for a retry; or a refusal.
--
-- The path that every message takes, so that nothing is done here that is not needed each time: the head
-- stays the array that it is packed as, and the functions of the other scripts are not even made.
local key = KEYS[1]
local FORM, LAST, VERSION, MESSAGES, TOKENS, APPENDED, EXPIRES, FENCE = 1, 2, 3, 4, 5, 6, 7, 8
local FIRST_CLASS = 10

local stored = redis.call('HMGET', key, 'h', ARGV[6])
local head, fence, begins, leftover, time
if stored[1] and ARGV[4] == '' then
  local ok, found = pcall(cmsgpack.unpack, stored[1])
  if ok and type(found) == 'table' and found[FORM] == 1 then
    if found[EXPIRES] ~= '' then
      time = tonumber(ARGV[1])
      if not time then
        local parts = redis.call('TIME')
        time = parts[1] * 1000000 + parts[2]
      end
    end
    if not time or tonumber(found[EXPIRES]) > time then
      head = found
    end
  end
end
if head and not stored[2] then
  fence = head[FENCE]
elseif head then
  local newest = string.sub(stored[2], 1, 20)
  if ARGV[7] > newest then
    fence = head[FENCE]
  end
end
if fence and ARGV[2] ~= '1' then
  local lease = redis.call('GET', KEYS[2])
  if lease and string.byte(lease) ~= 126 then
    fence = nil
  end
end
-- Everything else: a memory that begins or has expired, a lease, a retry, a refusal, damage.
if not fence then
