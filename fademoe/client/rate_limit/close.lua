-- Close budgets until a moment; a later end that is set already stays.
--
-- KEYS    for each budget its hash and sorted set (see take.lua)
-- ARGV    1..5 clocks (state.lua), 6 for how many ms, 7 why; for each budget: the period of its aligned windows or ''
-- Result  how many budgets were closed, or closed for longer
local for_ms, changed = tonumber(ARGV[6]), 0
for n = 1, #KEYS / 2 do
    local state = read_state(KEYS[2 * n - 1], KEYS[2 * n], tonumber(ARGV[7 + n]))
    if state.now + for_ms > state.closed_until then
        state.closed_until, changed = state.now + for_ms, changed + 1
        write_numbers(state, {'closed_until'})
        redis.call('HSET', state.hash, 'closed_why', ARGV[7])
    end
end
return changed
