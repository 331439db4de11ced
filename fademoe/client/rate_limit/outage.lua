-- Note how an exchange answered one address: after some failures in a row nothing is sent for a growing pause.
--
-- After the pause take.lua lets one request through; its failure makes the next pause twice as long, its success ends
-- the outage.
--
-- KEYS    the hash of the outage of an exchange at an address
-- ARGV    1..5 clocks (state.lua), 6 has failed (0 or 1), 7 when the request was granted, by Redis's clock, 8 why
-- Result  the pause that begins now in ms, 0 where none does
local FAILURES, FIRST_PAUSE_MS, MAX_PAUSE_MS = 4, 5000, 300000
if ARGV[6] == '0' then
    redis.call('DEL', KEYS[1])
    return 0
end
local state = read_state(KEYS[1])
if state.paused_at > 0 and tonumber(ARGV[7]) < state.paused_at then
    return 0 -- it was sent before the pause that its like has begun
end
state.failures = state.failures + 1
local pause = 0
if state.failures >= FAILURES then
    pause = math.min(FIRST_PAUSE_MS * 2 ^ state.pauses, MAX_PAUSE_MS)
    state.pauses, state.paused_at, state.resumes_at = math.min(state.pauses + 1, 20), state.now, state.now + pause
    state.probe_until = 0
end
write_numbers(state, {'failures', 'pauses', 'paused_at', 'resumes_at', 'probe_until'})
redis.call('HSET', KEYS[1], 'reason', ARGV[8])
redis.call('HSETNX', KEYS[1], 'since', text(state.now))
return pause
