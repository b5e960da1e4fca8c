-- A stored message: the text before the flags, the flags, the tokens, the class, the link, the id, and the text after
-- the flags.
local function described(message, place)
  local before, flags, tokens, id, length, at =
    string.match(message, '^(%d+ )(%d) (%d+) (%x+) %-?%d+ (%d+) ()')
  if not before then
    return error('CORRUPT ' .. key .. ' holds a message at place ' .. place .. ' that is not ours')
  end
  local last = #before + tonumber(before)
  return before, flags, tonumber(tokens), string.sub(message, at, at + length - 1),
    string.sub(message, at + length, last), id, string.sub(message, #before + 2)
end
