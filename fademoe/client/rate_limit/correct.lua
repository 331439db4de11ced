-- Take over the exchange's own count of an aligned window: another program may use the same address.
--
-- What others use is free up to the part of the limit that is left to them; what is beyond counts as ours.
--
-- KEYS    the budget's hash and sorted set (see take.lua)
-- ARGV    1..5 clocks (state.lua), 6 the exchange's count, 7 when the answered request was counted, 8 unit_ms,
--         9 period_ms, 10 jitter_ms, 11 units that are left to others
-- Result  units that were added to ours
local theirs, at, unit_ms = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local period, left_to_others = tonumber(ARGV[9]), tonumber(ARGV[11])
local state = read_state(KEYS[1], KEYS[2], period)
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
