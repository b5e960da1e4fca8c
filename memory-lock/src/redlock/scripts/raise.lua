-- The counter of tokens never decreases.
local function raise(fence, token)
  if tonumber(redis.call('GET', fence) or '0') < tonumber(token) then
    redis.call('SET', fence, token)
  end
end
