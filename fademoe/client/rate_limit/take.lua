-- Take cost units from a budget: now, or after a wait in line.
--
-- Two rules hold at once. The line: requests leave one after the other, `unit` ms apart for each unit of cost, first
-- come, first served; `tat` is when all who stand in it will have gone, and may lag behind a little, so that what was
-- not used can be caught up. The window: what was sent, and nothing else, is counted, so the limit holds whatever the
-- line does: by the number of the aligned window, or unit by unit. The exchange counts a request somewhere between its
-- sending and its answer, so a unit is held from the one until a window after the other (landed.lua); one that is never
-- answered, for its sender was killed, as if the answer had come FLIGHT_MS after the sending.
-- Who has to wait gets a ticket (due, shift), sleeps, and calls again with it: only then the units are counted. Live
-- work goes ahead of the line, within a share of the limit; this adds to `shift`, which puts off all who wait.
-- Time is Redis's own: hosts' clocks play no part.
--
-- KEYS    for each address a hash (tat, shift, live_tat, live_due, closed_until, window, used, used_before, ...) and a
--         sorted set (unit -> until when it is held; only for budgets whose windows are not aligned)
-- ARGV    cost, limit, period_ms, jitter_ms, is aligned, is live (0 or 1), longest wait in ms; of a ticket: due, shift
-- Result  {1, n, at_ms, mark}         granted at the n-th address, counted at at_ms; mark is for landed.lua
--         {2, n, wait_ms, due, shift} in line there: come back with this ticket in wait_ms
--         {0, n, wait_ms}             not granted, nothing taken: it would be due in wait_ms
local cost, limit, period, jitter = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local is_aligned, is_live, longest = ARGV[5] == '1', ARGV[6] == '1', tonumber(ARGV[7])
local span = period + jitter * (is_aligned and 2 or 1)
local LATE = 25 -- ms that one may come late for its turn without putting off who has the same turn a window later
local unit = (span + LATE) / limit
local CATCH_UP, LIVE_SHARE, KEPT_MS = math.min(span / 10, 5000), 1 / 4, 3600000
local FLIGHT_MS, SOON_MS = 10000, 100 -- how long an answer may take at most, and mostly
local AHEAD = 'ahead' -- the shift of those whom nothing puts off

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000

local function used_in(state, window)
    if window == state.window then
        return state.used
    end
    return window == state.window - 1 and state.used_before or 0
end

-- Read a budget; `open` is when its window has room for the cost.
local function read(n)
    local hash, held = KEYS[2 * n - 1], KEYS[2 * n]
    local found = redis.call('HMGET', hash, 'tat', 'shift', 'live_tat', 'live_due', 'closed_until', 'window', 'used',
        'used_before')
    local state = {n = n, hash = hash, held = held, tat = tonumber(found[1]) or 0, shift = tonumber(found[2]) or 0,
        live_tat = tonumber(found[3]) or 0, live_due = tonumber(found[4]) or 0, open = tonumber(found[5]) or 0,
        window = tonumber(found[6]) or 0, used = tonumber(found[7]) or 0, used_before = tonumber(found[8]) or 0}
    if is_aligned then
        for _, near in ipairs({now - jitter, now + jitter}) do
            local window = math.floor(near / period)
            if used_in(state, window) + cost > limit then
                state.open = math.max(state.open, (window + 1) * period + jitter)
            end
        end
    else
        redis.call('ZREMRANGEBYSCORE', held, '-inf', now)
        local over = redis.call('ZCARD', held) + cost - limit
        if over > 0 then
            local leaves = tonumber(redis.call('ZRANGE', held, over - 1, over - 1, 'WITHSCORES')[2])
            if leaves > now + span then
                -- not answered yet
                leaves = math.max(leaves - FLIGHT_MS, now) + SOON_MS
            end
            state.open = math.max(state.open, leaves)
        end
    end
    return state
end

-- Units that are sent now count for the window at hand, and near its edge for the one beyond it, too. Return the mark:
-- the last window that they count for, or the number of the last unit.
local function count(state)
    if is_aligned then
        local before, after = math.floor((now - jitter) / period), math.floor((now + jitter) / period)
        local used, used_before = used_in(state, after), used_in(state, after - 1)
        state.window, state.used = after, used + cost
        state.used_before = before < after and used_before + cost or used_before
        return after
    end
    local last = redis.call('HINCRBY', state.hash, 'units', cost)
    for unit_number = last - cost + 1, last do
        redis.call('ZADD', state.held, string.format('%.3f', now + span + FLIGHT_MS), unit_number)
    end
    redis.call('PEXPIRE', state.held, span + KEPT_MS)
    return last
end

local function write(state)
    redis.call('HSET', state.hash, 'tat', string.format('%.3f', state.tat), 'shift', string.format('%.3f', state.shift),
        'live_tat', string.format('%.3f', state.live_tat), 'live_due', string.format('%.3f', state.live_due),
        'limit', limit, 'period_ms', period)
    if is_aligned then
        redis.call('HSET', state.hash, 'window', state.window, 'used', state.used, 'used_before', state.used_before)
    end
    if redis.call('PTTL', state.hash) < KEPT_MS then
        redis.call('PEXPIRE', state.hash, span + KEPT_MS)
    end
end

-- Grant what is due, or give a ticket.
local function serve(state, due, is_ahead)
    if due - now > longest then
        return {0, state.n, math.ceil(due - now)}
    end
    if is_ahead then
        state.live_due = math.max(state.live_due, due > now and due + cost * unit or 0)
    end
    if due <= now then
        local mark = count(state)
        write(state)
        return {1, state.n, math.floor(now), mark}
    end
    write(state)
    return {2, state.n, math.ceil(due - now), string.format('%.3f', due),
        is_ahead and AHEAD or string.format('%.3f', state.shift)}
end

if ARGV[8] then
    local state, due = read(1), tonumber(ARGV[8])
    if ARGV[9] == AHEAD then
        return serve(state, math.max(due, state.open), true)
    end
    due = due + state.shift - tonumber(ARGV[9])
    local open = math.max(state.open, state.live_due)
    if due <= now and open > now then
        -- whoever stands behind is put off as well, so nobody overtakes
        state.shift, state.tat, due = state.shift + open - now, state.tat + open - now, open
    end
    return serve(state, due, false)
end

local best, best_due, best_is_ahead
for n = 1, #KEYS / 2 do
    local state = read(n)
    state.tat = math.max(state.tat, now - CATCH_UP)
    state.live_tat = math.max(state.live_tat, now - span * LIVE_SHARE)
    local is_ahead = is_live and state.live_tat <= now
    local open = math.max(state.open, state.live_due)
    if not is_ahead and open > math.max(now, state.tat) then
        state.tat = open
    end
    local due = math.max(now, open, is_ahead and 0 or state.tat)
    if not best or due < best_due then
        best, best_due, best_is_ahead = state, due, is_ahead
    end
end
best.tat = best.tat + cost * unit
if best_is_ahead then
    best.live_tat = best.live_tat + cost * unit / LIVE_SHARE
    best.shift = best.shift + cost * unit
end
return serve(best, best_due, best_is_ahead)
