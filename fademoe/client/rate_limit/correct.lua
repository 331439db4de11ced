-- Take over the exchange's own count of an aligned window when it is above ours: another program shares the address.
--
-- KEYS[1] the budget's hash (see take.lua)
-- ARGV    the exchange's count, when the answered request was counted, limit, period_ms, jitter_ms
-- Result  units that were added to ours
local theirs, at = tonumber(ARGV[1]), tonumber(ARGV[2])
local limit, period, jitter = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
local window = math.floor(now / period)
-- Near the turn it may be the count of either window, more so when a clock is off.
local near = period / 12
if math.floor((at - near) / period) ~= window or math.floor((now + near) / period) ~= window then
    return 0
end
local state = redis.call('HMGET', KEYS[1], 'tat', 'shift', 'window', 'used')
if tonumber(state[3]) ~= window then
    return 0
end
redis.call('HSET', KEYS[1], 'server_used', theirs, 'server_window', window)
local foreign = theirs - tonumber(state[4])
if foreign <= 0 then
    return 0
end
-- They went ahead of our line, as live work does (see take.lua).
local share = foreign * (period + 2 * jitter) / limit
redis.call('HSET', KEYS[1], 'tat', string.format('%.3f', math.max(tonumber(state[1]), now) + share),
    'shift', string.format('%.3f', tonumber(state[2]) + share))
redis.call('HINCRBY', KEYS[1], 'used', foreign)
return foreign
