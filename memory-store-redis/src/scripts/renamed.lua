-- The fields of receipts, erasures and removals that name this message, each followed by its value with the new id. A
-- removal names it twice: in the JSON of its receipt, and without hyphens. Looks at CHUNK removals up to this index, or up to
-- the newest one. If none of them names it, also returns the index of the next older one, if there is one.
local function renamed(head, old, new, newest)
  local function hyphenated(id, hyphen)
    return '"id":"' .. table.concat({
      string.sub(id, 1, 8), string.sub(id, 9, 12), string.sub(id, 13, 16), string.sub(id, 17, 20), string.sub(id, 21),
    }, hyphen) .. '"'
  end
  -- With its field, because the reason of an erasure may quote an id.
  local pattern, field = hyphenated(old, '%-'), hyphenated(new, '-')
  local set = {}
  -- Whether one of these fields of removals or of other records named it.
  local function rename(fields, of_removals)
    local before = #set
    for n, value in ipairs(redis.call('HMGET', key, unpack(fields))) do
      local record, names = string.gsub(value or '', pattern, field)
      if names > 0 then
        set[#set + 1], set[#set + 2] = fields[n], of_removals and string.gsub(record, old, new) or record
      end
    end
    return #set > before
  end
  local fields = {}
  for n = 0, RECEIPTS - 1 do
    fields[#fields + 1] = 'r' .. n
  end
  for n = 0, ERASURES - 1 do
    fields[#fields + 1] = 'x' .. n
  end
  rename(fields)
  local archive = archive_of(head, redis.call('HGET', key, 'z'))
  -- One removal at most has its originals, probably a late one.
  local to = archive and math.min(newest or math.huge, archive.following - 1) or 0
  if not archive or to < archive.first then
    return set
  end
  local from = math.max(to - CHUNK + 1, archive.first)
  fields = {}
  for at = from, to do
    fields[#fields + 1] = 'a' .. text_of(at)
  end
  if rename(fields, true) or from == archive.first then
    return set
  end
  return set, from - 1
end
