// Every script is atomic. KEYS are the hash of the values, that of the queues (fields h:<key>, t:<key> and e:<n>:<key>)
// and the count of closed handles; ARGV[1] is the prefix of the channels that notify of keys.

/** Bun's client reads replies as UTF-8, so a byte from 128 on is sent as the character with that number. */
const latin = String.raw`
local function latin(bytes)
  if not string.find(bytes, '[\128-\255]') then return bytes end
  local map = {}
  for b = 128, 191 do map[string.char(b)] = '\194' .. string.char(b) end
  for b = 192, 255 do map[string.char(b)] = '\195' .. string.char(b - 64) end
  return (string.gsub(bytes, '[\128-\255]', map))
end
`;

/** The bytes of a text that `latin` made. */
export function latinBytes(reply: unknown): Uint8Array {
  return new Uint8Array(Buffer.from(String(reply), "latin1"));
}

const has = `
local function has(key)
  return redis.call('HEXISTS', KEYS[1], key) == 1 or redis.call('HEXISTS', KEYS[2], 't:' .. key) == 1
end
`;

const put = `
local function put(key, value)
  redis.call('HSET', KEYS[1], key, value)
  redis.call('PUBLISH', ARGV[1] .. key, '')
end
`;

/** Replies of {@link addScript} that are not sums. */
export const addRefusal = { notACounter: "not a counter", overflow: "overflow" } as const;

/** ARGV: key, value, key, value… */
export const setScript = `${put}
for i = 2, #ARGV, 2 do put(ARGV[i], ARGV[i + 1]) end
`;

/** ARGV: keys. Null unless all are there. A filled queue counts, but has no value. */
export const getScript = `${latin}${has}
local values = {}
for i = 2, #ARGV do
  local value = redis.call('HGET', KEYS[1], ARGV[i])
  if not value and not has(ARGV[i]) then return false end
  values[i - 1] = latin(value or '')
end
return values
`;

/** ARGV: keys. The indices of those that are missing, from 0. */
export const missingScript = `${has}
local missing = {}
for i = 2, #ARGV do
  if not has(ARGV[i]) then missing[#missing + 1] = i - 2 end
end
return missing
`;

/** ARGV: key, amount. Doubles hold every valid sum; larger values are added in Redis's own 64 bits. */
export const addScript = `${put}
local text = redis.call('HGET', KEYS[1], ARGV[2]) or ''
if text == '' then text = '0' end
local sign, digits = string.match(text, '^([+-]?)(%d+)$')
if not digits or #text > 20 then return '${addRefusal.notACounter}' end
digits = string.gsub(digits, '^0+(%d)', '%1')
local number = (sign == '-' and digits ~= '0' and '-' or '') .. digits
local sum = tonumber(number) + tonumber(ARGV[3])
if math.abs(tonumber(number)) > 9007199254740991 then
  redis.call('HSET', KEYS[2], 'sum', number)
  local exact = redis.pcall('HINCRBY', KEYS[2], 'sum', ARGV[3])
  sum = type(exact) == 'table' and math.huge or tonumber(redis.call('HGET', KEYS[2], 'sum'))
  redis.call('HDEL', KEYS[2], 'sum')
end
if math.abs(sum) > 9007199254740991 then return '${addRefusal.overflow}' end
local result = string.format('%.0f', sum + 0)
put(ARGV[2], result)
return result
`;

/** ARGV: key, expected, desired. 1 if it set the value, 0 if the key is absent, else the current value. */
export const compareSetScript = `${latin}${put}
local current = redis.call('HGET', KEYS[1], ARGV[2])
if (current or '') == ARGV[3] then
  put(ARGV[2], ARGV[4])
  return 1
end
return current and latin(current) or 0
`;

/** ARGV: key, addition. */
export const appendScript = `${put}
put(ARGV[2], (redis.call('HGET', KEYS[1], ARGV[2]) or '') .. ARGV[3])
`;

/** ARGV: key, value. */
export const pushScript = `
local tail = redis.call('HINCRBY', KEYS[2], 't:' .. ARGV[2], 1)
redis.call('HSET', KEYS[2], string.format('e:%.0f:', tail) .. ARGV[2], ARGV[3])
redis.call('PUBLISH', ARGV[1] .. ARGV[2], '')
`;

/** ARGV: key. Null when the queue is empty. */
export const popScript = `${latin}
local tail = redis.call('HGET', KEYS[2], 't:' .. ARGV[2])
if not tail then return false end
local head = redis.call('HINCRBY', KEYS[2], 'h:' .. ARGV[2], 1)
local field = string.format('e:%.0f:', head) .. ARGV[2]
local value = redis.call('HGET', KEYS[2], field)
redis.call('HDEL', KEYS[2], field)
if head == tonumber(tail) then redis.call('HDEL', KEYS[2], 'h:' .. ARGV[2], 't:' .. ARGV[2]) end
return latin(value)
`;

/** ARGV: key. */
export const queueLengthScript = `
return (redis.call('HGET', KEYS[2], 't:' .. ARGV[2]) or 0) - (redis.call('HGET', KEYS[2], 'h:' .. ARGV[2]) or 0)
`;

/** ARGV: world size. Removes all when as many handles have been closed. */
export const leaveScript = `
if redis.call('INCR', KEYS[3]) >= tonumber(ARGV[2]) then redis.call('DEL', KEYS[1], KEYS[2], KEYS[3]) end
`;
