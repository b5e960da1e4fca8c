-- As `newest_of`, but empty if the message was removed: its field may still be there.
local function present_newest(head, index)
  local listed = head.base > 0 and tonumber(string.match(string.sub(index or '', -20), '(%d+)%s*$'))
  if head.last > head.base or listed == head.last then
    return newest_of(head)
  end
  return '', ''
end
