-- Take cost units from a budget, or reserve them for a moment not too far ahead.
--
-- The budget is a leaky bucket kept as one time (GCRA): `tat`, when everything granted so far will have flowed out at
-- the refill rate. Units flow out at (limit - burst - live burst) per period, so the bursts and the refill of any window
-- as long as the period add up to the limit at most. Time is Redis's own: hosts' clocks play no part.
--
-- KEYS[1] budget:gcra1:<exchange>:<budget>:<egress>, a hash
-- ARGV    cost, limit, period_ms, burst, live burst, is live (0 or 1), longest wait in ms
-- Result  {1, wait_ms, slot_ms}  granted: send in wait_ms, counted at slot_ms
--         {0, wait_ms, 0}        not granted, nothing taken: free or open again in wait_ms
local cost, limit, period = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local burst, live_burst, is_live, longest = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1', tonumber(ARGV[7])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
local state = redis.call('HMGET', KEYS[1], 'tat', 'live_tat', 'closed_until', 'window', 'used', 'used_before')
local tat = math.max(tonumber(state[1]) or now, now)
local live_tat = math.max(tonumber(state[2]) or now, now)
local closed = tonumber(state[3]) or 0
local per_unit = period / (limit - burst - live_burst)

local wait
if is_live then
    -- the live lane is a tenth of the refill and its own burst; beyond it live work queues like all other
    local lane_unit = per_unit * 10
    local lane_wait = live_tat + cost * lane_unit - live_burst * lane_unit - now
    if lane_wait <= 0 then
        wait = 0
        live_tat = live_tat + cost * lane_unit
    end
end
if not wait then
    wait = math.max(0, tat + cost * per_unit - burst * per_unit - now)
end
wait = math.ceil(math.max(wait, closed - now))
if wait > longest then
    return {0, wait, 0}
end

local slot = now + wait
local window = math.floor(slot / period)
local newest, used, before = tonumber(state[4]) or window, tonumber(state[5]) or 0, tonumber(state[6]) or 0
if window > newest then
    before = (window == newest + 1) and used or 0
    newest, used = window, cost
elseif window == newest then
    used = used + cost
else
    before = before + cost
end
redis.call('HSET', KEYS[1], 'tat', string.format('%.3f', tat + cost * per_unit),
    'live_tat', string.format('%.3f', live_tat), 'window', newest, 'used', used, 'used_before', before,
    'limit', limit, 'period_ms', period)
redis.call('PEXPIRE', KEYS[1], math.max(period * 4, closed - now + period, 3600000))
return {1, wait, math.floor(slot)}
