-- Take over the exchange's own count of a clock-aligned window when it is above ours: another program shares the address.
--
-- KEYS[1] the budget's hash (see take.lua)
-- ARGV    the exchange's count, slot_ms of the request that was answered, limit, period_ms, burst, live burst
-- Result  units that were added to ours
local theirs, slot = tonumber(ARGV[1]), tonumber(ARGV[2])
local limit, period, burst, live_burst = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
local window = math.floor(now / period)
-- An answer that crossed the turn of the window may count either side: leave it.
if math.floor(slot / period) ~= window then
    return 0
end
redis.call('HSET', KEYS[1], 'server_used', theirs, 'server_window', window)
local state = redis.call('HMGET', KEYS[1], 'tat', 'window', 'used', 'used_before')
local newest = tonumber(state[2]) or window
local ours = tonumber(newest == window and state[3] or state[4]) or 0
local foreign = theirs - ours
if foreign <= 0 then
    return 0
end
local per_unit = period / (limit - burst - live_burst)
local tat = math.max(tonumber(state[1]) or now, now) + foreign * per_unit
redis.call('HSET', KEYS[1], 'tat', string.format('%.3f', tat))
redis.call('HINCRBY', KEYS[1], newest == window and 'used' or 'used_before', foreign)
return foreign
