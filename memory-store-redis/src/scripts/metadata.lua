-- The metadata is a packed array: the revision, the time of the last update in microseconds as a text, then of each name
-- itself and its value, both as JSON texts.
local function metadata_of(stored)
  if not stored then
    return {0, ''}
  end
  local ok, array = pcall(cmsgpack.unpack, stored)
  local sound = ok and type(array) == 'table' and type(array[1]) == 'number' and #array % 2 == 0
  for at = 2, sound and #array or 0 do
    sound = sound and type(array[at]) == 'string'
  end
  return sound and array or error('CORRUPT ' .. key .. ' holds metadata that is not ours')
end

-- The metadata after these names were set or, with an empty value, removed; else nil, and the refusal.
local function updated(metadata, patch, first, time)
  local values, known, after = {}, {}, {metadata[1] + 1, text_of(time)}
  for at = first, #patch, 2 do
    values[patch[at]] = patch[at + 1]
  end
  local bytes, names = 1, 0
  local function add(name, value)
    known[name] = true
    if value ~= '' then
      after[#after + 1], after[#after + 2] = name, value
      -- With a colon, and a comma or the closing bracket.
      bytes, names = bytes + #name + #value + 2, names + 1
    end
  end
  for at = 3, #metadata, 2 do
    add(metadata[at], values[metadata[at]] or metadata[at + 1])
  end
  for at = first, #patch, 2 do
    if not known[patch[at]] then
      add(patch[at], patch[at + 1])
    end
  end
  if names > MOST_NAMES then
    return nil, {'M', 'n', names}
  end
  if bytes > MOST_METADATA_BYTES then
    return nil, {'M', 'b', bytes}
  end
  return after
end
