-- Note that a granted request has its answer, so the exchange has counted its units by now: their window starts. Where
-- the answer holds the exchange's own count of an aligned window, take that over: others may use the same address.
--
-- What others use is free up to the part of the limit that is left to them; what is beyond counts as ours.
--
-- KEYS    the budget's hash and sorted set (see take.lua)
-- ARGV    1..5 clocks (state.lua), 6 cost, 7 sequence of the grant, 8 period_ms, 9 jitter_ms, 10 is aligned;
--         where there is a count: 11 the exchange's count, 12 when the answered request was counted, 13 unit_ms,
--         14 units that are left to others
-- Result  units of others that were added to ours
local cost, sequence = tonumber(ARGV[6]), tonumber(ARGV[7])
local period, jitter, is_aligned = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10] == '1'
local state = read_state(KEYS[1], KEYS[2], is_aligned and period or nil)

local function start_window()
    if not is_aligned then
        for unit = sequence - cost + 1, sequence do
            redis.call('ZADD', KEYS[2], 'XX', text(state.now + period + jitter), unit)
        end
        return
    end
    -- It may have crossed into a window that it was not counted for.
    local window = math.floor((state.now + jitter) / period)
    if window <= sequence or window < state.window then
        return
    end
    if window > state.window then
        state.used_before = window == state.window + 1 and state.used or 0
        state.window, state.used = window, cost
    else
        state.used = state.used + cost
    end
    write_numbers(state, {'window', 'used', 'used_before'})
end

local function take_over(theirs, at, unit_ms, left_to_others)
    local window = math.floor(state.now / period)
    -- Near the turn it may be the count of either window, more so when a clock is off.
    local near = period / 12
    if math.floor((at - near) / period) ~= window or math.floor((state.now + near) / period) ~= window
        or state.window ~= window then
        return 0
    end
    redis.call('HSET', KEYS[1], 'server_used', theirs, 'server_window', window)
    local counted = state.foreign_window == window and state.foreign or 0
    local foreign = theirs - (state.used - counted) - left_to_others
    local added = foreign - counted
    if added <= 0 then
        return 0
    end
    -- They went ahead of our queue, as live work does (see take.lua).
    state.next_slot = math.max(state.next_slot, state.now) + added * unit_ms
    state.priority_offset = state.priority_offset + added * unit_ms
    state.used, state.foreign, state.foreign_window = state.used + added, foreign, window
    write_numbers(state, {'next_slot', 'priority_offset', 'used', 'foreign', 'foreign_window'})
    return added
end

start_window()
return ARGV[11] and take_over(tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])) or 0
