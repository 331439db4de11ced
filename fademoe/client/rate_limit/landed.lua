-- Note that the answer to a granted request is here: the exchange has counted its units by now, and not before the grant.
--
-- KEYS    the budget's hash and sorted set (see take.lua)
-- ARGV    cost, mark of the grant, period_ms, jitter_ms, is aligned
-- Result  1 when it changed what counts
local cost, mark, period, jitter = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000

if ARGV[5] == '0' then
    local changed = 0
    for unit_number = mark - cost + 1, mark do
        local until_ms = string.format('%.3f', now + period + jitter)
        changed = changed + redis.call('ZADD', KEYS[2], 'XX', 'CH', until_ms, unit_number)
    end
    return math.min(changed, 1)
end

-- It may have crossed into a window that it was not counted for.
local window = math.floor((now + jitter) / period)
local state = redis.call('HMGET', KEYS[1], 'window', 'used')
local newest, used = tonumber(state[1]) or window, tonumber(state[2]) or 0
if window <= mark or window < newest then
    return 0
end
if window > newest then
    redis.call('HSET', KEYS[1], 'window', window, 'used', cost, 'used_before', window == newest + 1 and used or 0)
else
    redis.call('HINCRBY', KEYS[1], 'used', cost)
end
return 1
