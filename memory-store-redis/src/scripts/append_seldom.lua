-- Everything else: a memory that begins or has expired, a lease, a retry, a refusal, damage, an expected version.
if not head then
  local own_time, alone, confirm, owner, token =
    string.match(settings, '^(%d*) ([01]) ([01]) (%x*) (%d*)$')
  local tokens_alone, confirms = alone == '1', confirm == '1'
