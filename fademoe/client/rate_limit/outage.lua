-- Note how an exchange answered one address: after some failures in a row nothing is sent for a growing pause.
--
-- Answers that fail pause their path; the exchange as a whole is paused when they are of several paths, without a
-- success in between, or when requests get no answer.
-- After the pause take.lua lets one request through; its failure makes the next pause twice as long, its success ends
-- the outage.
--
-- KEYS    the hash of the outage of an exchange at an address, that of the request's path
-- ARGV    1..5 clocks (state.lua), 6 has failed (0 or 1), 7 when the request was granted, by Redis's clock, 8 why,
--         9 the path whose answer failed, '' where there was no answer
-- Result  the pause that begins now in ms, 0 where none does
local FAILURES, FIRST_PAUSE_MS, MAX_PAUSE_MS = 4, 5000, 300000
local path = ARGV[9]
if ARGV[6] == '0' then
    redis.call('DEL', unpack(KEYS))
    return 0
end

local function count_failure(hash, may_pause)
    local state = read_state(hash)
    if state.paused_at > 0 and tonumber(ARGV[7]) < state.paused_at then
        return 0 -- it was sent before the pause that its like has begun
    end
    state.failures = state.failures + 1
    local pause = 0
    if may_pause and state.failures >= FAILURES then
        pause = math.min(FIRST_PAUSE_MS * 2 ^ state.pauses, MAX_PAUSE_MS)
        state.pauses, state.paused_at, state.resumes_at = math.min(state.pauses + 1, 20), state.now, state.now + pause
        state.probe_until = 0
    end
    write_numbers(state, {'failures', 'pauses', 'paused_at', 'resumes_at', 'probe_until'})
    redis.call('HSET', hash, 'reason', ARGV[8])
    redis.call('HSETNX', hash, 'since', text(state.now))
    return pause
end

local only = redis.call('HGET', KEYS[1], 'only_path') -- '' where there are several, or no answers
local is_several = path == '' or (only and only ~= path)
if path ~= '' and only and only ~= '' and only ~= path then
    redis.call('HSET', KEYS[1], 'failures', 1) -- so many of the first path count, however often that one failed
end
local pause = count_failure(KEYS[1], is_several)
redis.call('HSET', KEYS[1], 'only_path', is_several and '' or path)
return path == '' and pause or math.max(pause, count_failure(KEYS[2], true))
