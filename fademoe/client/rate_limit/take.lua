-- Take cost units from a budget: now, or after a wait in the queue.
--
-- Two rules hold at once.
-- Pace: requests leave one after the other, `unit_ms` apart for each unit of cost, first come, first served.
-- `next_slot` is when the next request may leave; it may lag behind a little, so that unused time is caught up.
-- Window: no window of the exchange holds more than `capacity` units. Aligned windows are counted by number, others
-- unit by unit in a sorted set. The exchange counts a request at some time between its sending and its answer, so a
-- unit is in use from the one until a window after the other (on_response.lua). A request that is never answered,
-- because its sender was killed, counts as answered MAX_FLIGHT_MS after it was sent.
-- A request that has to wait gets a ticket (due, priority_offset), sleeps, and calls again with it: units are counted
-- only when a request leaves. Live work goes ahead of the queue within LIVE_SHARE of the limit; that adds to
-- `priority_offset`, which delays every queued request.
-- While an exchange or a path fails (outage.lua) nothing leaves for it, then a single request that probes it.
--
-- KEYS    for each address four: the budget's hash, the sorted set of its units in use (unit -> until when; only for
--         windows that are not aligned), the hash of the exchange's outage, that of the path's (the same without one)
-- ARGV    1..5 clocks (state.lua), 6 cost, 7 capacity, 8 unit_ms, 9 period_ms, 10 jitter_ms, 11 is aligned,
--         12 is live (0 or 1), 13 longest wait in ms, 14 limit, 15 share of it that is ours (both only for usage.py);
--         of a ticket: 16 due, 17 priority_offset
-- Result  {1, n, at_ms, sequence, failures, redis_ms}
--             granted at the n-th address, at that time of the budget's clock and of Redis's; `sequence` is for
--             on_response.lua; so many requests have failed there in a row; redis_ms is a text, it has µs
--         {2, n, wait_ms, due, priority_offset}
--             queued there: come back with this ticket in wait_ms
--         {0, n, wait_ms, outage}
--             not granted, nothing taken: it would be due in wait_ms; outage: 0 none, 1 the exchange's, 2 the path's
local cost, capacity, unit_ms = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local period, jitter, is_aligned = tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11] == '1'
local is_live, longest = ARGV[12] == '1', tonumber(ARGV[13])
local span = period + jitter * (is_aligned and 2 or 1)
local MAX_CATCH_UP_MS, LIVE_SHARE = math.min(span / 10, 5000), 1 / 4
local MAX_FLIGHT_MS, MEAN_FLIGHT_MS = 10000, 100
local MAX_PROBE_MS, PROBE_POLL_MS = 40000, 2000
local PRIORITY = 'priority' -- the offset in the tickets of live work: nothing delays it
local WRITTEN = {'limit', 'share', 'period_ms', 'priority_offset', 'next_slot', 'live_next_slot', 'live_until'}
local WRITTEN_ALIGNED = {'window', 'used', 'used_before', unpack(WRITTEN)}

local function used_in(state, window)
    if window == state.window then
        return state.used
    end
    return window == state.window - 1 and state.used_before or 0
end

-- Return when the window has room for the cost.
local function opens_at(state)
    local open = state.closed_until
    if is_aligned then
        for _, near in ipairs({state.now - jitter, state.now + jitter}) do
            local window = math.floor(near / period)
            if used_in(state, window) + cost > capacity then
                open = math.max(open, (window + 1) * period + jitter)
            end
        end
        return open
    end
    redis.call('ZREMRANGEBYSCORE', state.held, '-inf', state.now)
    local over = redis.call('ZCARD', state.held) + cost - capacity
    if over > 0 then
        local leaves = tonumber(redis.call('ZRANGE', state.held, over - 1, over - 1, 'WITHSCORES')[2])
        if leaves > state.now + span then
            -- not answered yet
            leaves = math.max(leaves - MAX_FLIGHT_MS, state.now) + MEAN_FLIGHT_MS
        end
        open = math.max(open, leaves)
    end
    return open
end

-- Read the n-th address; `open` is when a request may leave from it, apart from the queue.
local function read(n)
    local state = read_state(KEYS[4 * n - 3], KEYS[4 * n - 2], is_aligned and period or nil)
    state.n, state.open = n, opens_at(state)
    state.limit, state.share, state.period_ms = tonumber(ARGV[14]), tonumber(ARGV[15]), period
    state.outages = {read_state(KEYS[4 * n - 1]), read_state(KEYS[4 * n])}
    for i, outage in ipairs(state.outages) do
        local wait = outage.resumes_at - outage.now
        if wait <= 0 and outage.probe_until > outage.now then
            wait = math.min(outage.probe_until - outage.now, PROBE_POLL_MS)
        end
        if wait > 0 and state.now + wait > state.open then
            state.open, state.out = state.now + wait, i
        end
    end
    return state
end

-- Units that leave now count for the window at hand, and near its edge for the one beyond it, too. Return the
-- sequence: the last window that they count for, or the number of the last unit.
local function count(state)
    for _, outage in ipairs(state.outages) do
        if outage.paused_at > 0 then
            outage.probe_until = outage.now + MAX_PROBE_MS
            write_numbers(outage, {'probe_until'})
        end
    end
    if is_aligned then
        local before, after = math.floor((state.now - jitter) / period), math.floor((state.now + jitter) / period)
        local used, used_before = used_in(state, after), used_in(state, after - 1)
        state.window, state.used = after, used + cost
        state.used_before = before < after and used_before + cost or used_before
        return after
    end
    local last = redis.call('HINCRBY', state.hash, 'sequence', cost)
    for unit = last - cost + 1, last do
        redis.call('ZADD', state.held, text(state.now + span + MAX_FLIGHT_MS), unit)
    end
    redis.call('PEXPIRE', state.held, KEEP_MS)
    return last
end

-- Grant what is due, or give a ticket. No request is queued for a path that fails: other paths use the queue, too.
local function serve(state, due, has_priority)
    local wait = due - state.now
    if wait > longest or state.out == 2 then
        return {0, state.n, math.ceil(wait), state.out or 0}
    end
    if has_priority then
        state.live_until = math.max(state.live_until, wait > 0 and due + cost * unit_ms or 0)
    end
    local sequence = wait <= 0 and count(state)
    write_numbers(state, is_aligned and WRITTEN_ALIGNED or WRITTEN)
    if sequence then
        local all, own = unpack(state.outages)
        return {1, state.n, math.floor(state.now), sequence, math.max(all.failures, own.failures), text(all.now)}
    end
    return {2, state.n, math.ceil(wait), text(due), has_priority and PRIORITY or text(state.priority_offset)}
end

if ARGV[16] then
    local state, due = read(1), tonumber(ARGV[16])
    if ARGV[17] == PRIORITY then
        due = due > state.now + longest and state.now or due -- the clock was set back meanwhile
        return serve(state, math.max(due, state.open), true)
    end
    due = due + state.priority_offset - tonumber(ARGV[17])
    local open = math.max(state.open, state.live_until)
    if due <= state.now and open > state.now then
        -- every request behind is delayed as well, so none overtakes
        local delay = open - state.now
        state.priority_offset, state.next_slot, due = state.priority_offset + delay, state.next_slot + delay, open
    end
    return serve(state, due, false)
end

local best, best_wait, best_has_priority, best_fails
for n = 1, #KEYS / 4 do
    local state = read(n)
    state.next_slot = math.max(state.next_slot, state.now - MAX_CATCH_UP_MS)
    state.live_next_slot = math.max(state.live_next_slot, state.now - span * LIVE_SHARE)
    local has_priority = is_live and state.live_next_slot <= state.now
    local open = math.max(state.open, state.live_until)
    if not has_priority and open > math.max(state.now, state.next_slot) then
        state.next_slot = open
    end
    local wait = math.max(state.now, open, has_priority and 0 or state.next_slot) - state.now
    local fails = state.out == 2 -- another address goes first, however long its queue is
    if not best or (best_fails and not fails) or (best_fails == fails and wait < best_wait) then
        best, best_wait, best_has_priority, best_fails = state, wait, has_priority, fails
    end
    if best_wait == 0 and not best_fails then
        break -- no other address is due before
    end
end
best.next_slot = best.next_slot + cost * unit_ms
if best_has_priority then
    best.live_next_slot = best.live_next_slot + cost * unit_ms / LIVE_SHARE
    best.priority_offset = best.priority_offset + cost * unit_ms
end
return serve(best, best.now + best_wait, best_has_priority)
