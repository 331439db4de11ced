-- Shared by all scripts: read what Redis keeps of a budget, or of an outage, and move it along when its clock jumps.
--
-- Times are ms of a budget's own clock: the exchange's where windows are aligned to it and its time is known,
-- Redis's otherwise. Either may be set while we run. Each script receives a clock of its caller that never jumps, and
-- keeps the last pair of the two: a difference of more than JUMP_MS is a jump, and all times that are kept jump too.
-- So a closure or a unit in use lasts as long as it should, and nothing is claimed by a state from the future.
--
-- ARGV[1..5] the caller's machine (a run of it), its steady clock in ms, the exchange's clock in ms or '', and the pace
--            of the caller's clocks: so many times as fast as the host's (1, except for tests) since a time in ms
local JUMP_MS, KEEP_MS, OUTAGE_KEEP_MS = 2000, 30 * 86400000, 3600000
local TIMES = {'next_slot', 'live_next_slot', 'live_until', 'closed_until', 'paused_at', 'resumes_at', 'probe_until'}
local NUMBERS = {'at', 'at_steady', 'priority_offset', 'window', 'used', 'used_before', 'foreign', 'foreign_window',
    'failures', 'pauses', unpack(TIMES)}

local machine, steady, server_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local redis_time = redis.call('TIME')
local redis_ms = tonumber(redis_time[1]) * 1000 + tonumber(redis_time[2]) / 1000
redis_ms = ARGV[5] + (redis_ms - ARGV[5]) * ARGV[4]

local function text(number)
    return string.format('%.3f', number)
end

-- Write numbers of a state, and the pair of clocks.
local function write_numbers(state, names)
    local values = {'at', text(state.now), 'at_steady', text(steady), 'at_machine', machine}
    for _, name in ipairs(names) do
        values[#values + 1] = name
        values[#values + 1] = text(state[name])
    end
    redis.call('HSET', state.hash, unpack(values))
    redis.call('PEXPIRE', state.hash, state.held and KEEP_MS or OUTAGE_KEEP_MS)
end

-- Move all times of a state by `jump` ms. An aligned window that does not land on one window counts for both.
local function move(state, jump)
    for _, name in ipairs(TIMES) do
        if state[name] > 0 then
            state[name] = state[name] + jump
        end
    end
    state.priority_offset = state.priority_offset + jump -- a ticket's time moves with it
    if state.period and state.window > 0 then
        local start = state.window * state.period + jump
        state.window = math.floor(start / state.period)
        if start % state.period > 0 then
            state.window, state.used_before = state.window + 1, state.used
        end
    end
    if state.held then
        local units = redis.call('ZRANGE', state.held, 0, -1, 'WITHSCORES')
        for i = 1, #units, 2 do
            redis.call('ZADD', state.held, text(tonumber(units[i + 1]) + jump), units[i])
        end
    end
    write_numbers(state, {'priority_offset', 'window', 'used_before', unpack(TIMES)})
end

-- Read a hash, with the sorted set of the units in use (`held`) and the period of aligned windows (`period`) if any.
local function read_state(hash, held, period)
    local state = {hash = hash, held = held, period = period, now = period and server_ms or redis_ms}
    local values = redis.call('HMGET', hash, 'at_machine', unpack(NUMBERS))
    for i, name in ipairs(NUMBERS) do
        state[name] = tonumber(values[i + 1]) or 0
    end
    if state.at == 0 then
        return state
    end
    local is_same_machine = values[1] == machine
    local expected = is_same_machine and state.at + steady - state.at_steady or state.at
    local jump = state.now - expected
    if jump < -JUMP_MS or (is_same_machine and jump > JUMP_MS) then
        move(state, jump)
    else
        state.now = math.max(state.now, state.at) -- callers read their clocks before they are served
    end
    return state
end
