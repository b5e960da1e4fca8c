-- The head, as it is answered; a memory that is not there has number 0 everywhere.
local function whole(answer, head)
  head = head or new_head(NO_TOKEN, NO_TOKEN, '0')
  local n = #answer
  answer[n + 1] = head.generation
  answer[n + 2] = head.version
  answer[n + 3] = head.last
  answer[n + 4] = head.fence
  answer[n + 5] = head.flush_fence
  answer[n + 6] = head.expires or ''
  return report(answer, head)
end
