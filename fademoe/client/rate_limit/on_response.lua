-- Start the window of the units of a granted request: it has its answer, so the exchange has counted them by now.
--
-- KEYS    the budget's hash and sorted set (see take.lua)
-- ARGV    1..5 clocks (state.lua), 6 cost, 7 mark of the grant, 8 period_ms, 9 jitter_ms, 10 is aligned
-- Result  1 when it changed what counts
local cost, mark = tonumber(ARGV[6]), tonumber(ARGV[7])
local period, jitter, is_aligned = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10] == '1'
local state = read_state(KEYS[1], KEYS[2], is_aligned and period or nil)

if not is_aligned then
    local changed = 0
    for unit = mark - cost + 1, mark do
        changed = changed + redis.call('ZADD', KEYS[2], 'XX', 'CH', text(state.now + period + jitter), unit)
    end
    return math.min(changed, 1)
end

-- It may have crossed into a window that it was not counted for.
local window = math.floor((state.now + jitter) / period)
if window <= mark or window < state.window then
    return 0
end
if window > state.window then
    state.used_before = window == state.window + 1 and state.used or 0
    state.window, state.used = window, cost
else
    state.used = state.used + cost
end
write_numbers(state, {'window', 'used', 'used_before'})
return 1
