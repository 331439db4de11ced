-- Paper accounts.

-- name: add
INSERT INTO perp_trader_accounts (name, plan, settings, since, cursor, state)
VALUES (%(name)s, %(plan)s, %(settings)s, %(since)s, %(since)s, %(state)s)
ON CONFLICT (name) DO NOTHING
RETURNING true

-- name: remove
DELETE FROM perp_trader_accounts WHERE name = %(name)s RETURNING true

-- name: accounts
SELECT name, plan, settings, (extract(epoch FROM made_at) * 1000)::bigint, since, cursor, state, trip, trip_kind
FROM perp_trader_accounts
WHERE %(name)s::text IS NULL OR name = %(name)s
ORDER BY name COLLATE "C"

-- name: cursors
SELECT name, cursor, trip, trip_kind FROM perp_trader_accounts ORDER BY name COLLATE "C"

-- name: lock
SELECT cursor, trip FROM perp_trader_accounts WHERE name = %(name)s FOR UPDATE

-- name: move
UPDATE perp_trader_accounts
SET cursor = %(cursor)s, state = %(state)s, trip = coalesce(trip, %(trip)s),
    trip_kind = coalesce(trip_kind, %(trip_kind)s)
WHERE name = %(name)s

-- name: reset
UPDATE perp_trader_accounts SET trip = NULL, trip_kind = NULL
WHERE name = %(name)s AND (%(kind)s::text IS NULL OR trip_kind = %(kind)s)
RETURNING true

-- name: add_ledger
INSERT INTO perp_trader_ledger
    (account, seq, ts, kind, symbol, quantity, price, fee, amount, cash, position, reason) VALUES %s

-- name: add_minutes
INSERT INTO perp_trader_minutes (account, ts, equity, cash, missing) VALUES %s

-- name: add_days
INSERT INTO perp_trader_days (account, day, state) VALUES %s ON CONFLICT DO NOTHING

-- name: add_event
INSERT INTO perp_trader_events (account, minute, is_off, reason)
VALUES (%(name)s, %(minute)s, %(is_off)s, %(reason)s)
ON CONFLICT (account, minute) DO UPDATE SET is_off = excluded.is_off, reason = excluded.reason

-- name: add_decisions
INSERT INTO perp_trader_decisions (account, minute, symbol, orders) VALUES %s ON CONFLICT DO NOTHING

-- name: add_action
INSERT INTO perp_trader_actions (account, action, reason) VALUES (%(name)s, %(action)s, %(reason)s)

-- name: actions
SELECT account, action, reason, (extract(epoch FROM at) * 1000)::bigint FROM perp_trader_actions
WHERE %(name)s::text IS NULL OR account IS NULL OR account = %(name)s
ORDER BY id DESC LIMIT %(limit)s

-- name: is_on
SELECT action = 'on' FROM perp_trader_actions WHERE account IS NULL AND action IN ('on', 'off') ORDER BY id DESC LIMIT 1

-- name: events
SELECT minute, is_off, reason FROM perp_trader_events
WHERE account = %(name)s AND minute >= %(since)s AND minute < %(until)s
ORDER BY minute

-- name: ledger
SELECT seq, ts, kind, symbol, trim_scale(quantity)::text AS quantity, trim_scale(price)::text AS price,
       trim_scale(fee)::text AS fee, trim_scale(amount)::text AS amount, trim_scale(cash)::text AS cash,
       trim_scale(position)::text AS position, reason
FROM perp_trader_ledger
WHERE account = %(name)s AND seq > %(after)s AND ts >= %(since)s AND ts < %(until)s
ORDER BY seq
LIMIT %(limit)s

-- name: newest_ledger
SELECT seq, ts, kind, symbol, trim_scale(quantity)::text AS quantity, trim_scale(price)::text AS price,
       trim_scale(fee)::text AS fee, trim_scale(amount)::text AS amount, trim_scale(cash)::text AS cash,
       trim_scale(position)::text AS position, reason
FROM perp_trader_ledger
WHERE account = %(name)s
ORDER BY seq DESC
LIMIT %(limit)s

-- name: equity
SELECT ts, trim_scale(equity)::text, trim_scale(cash)::text
FROM perp_trader_minutes
WHERE account = %(name)s AND ts > %(after)s
ORDER BY ts
LIMIT %(limit)s

-- name: minutes
SELECT ts, trim_scale(equity)::text, trim_scale(cash)::text, missing
FROM perp_trader_minutes
WHERE account = %(name)s AND ts >= %(since)s AND ts < %(until)s
ORDER BY ts

-- name: day
SELECT state FROM perp_trader_days WHERE account = %(name)s AND day = %(day)s

-- name: decisions
SELECT minute, symbol, orders FROM perp_trader_decisions WHERE account = %(name)s
ORDER BY minute DESC, symbol COLLATE "C" LIMIT %(limit)s

-- name: save_reconciliation
INSERT INTO perp_trader_reconciliations (account, day, until, is_equal, differences, curve)
VALUES (%(name)s, %(day)s, %(until)s, %(is_equal)s, %(differences)s, %(curve)s)
ON CONFLICT (account, day) DO UPDATE
SET until = excluded.until, is_equal = excluded.is_equal, differences = excluded.differences, curve = excluded.curve,
    at = now()

-- name: reconciled_days
SELECT day FROM perp_trader_reconciliations
WHERE account = %(name)s AND day >= %(first)s AND until >= day + %(length)s

-- name: reconciliations
SELECT day, until, is_equal, differences, curve, (extract(epoch FROM at) * 1000)::bigint FROM perp_trader_reconciliations
WHERE account = %(name)s ORDER BY day DESC LIMIT %(limit)s

-- Until when each series is covered without a gap from its time on; NULL: not even then. Before it was wanted first
-- there is nothing to wait for.
-- name: covered_until
SELECT w.source, w.symbol, (
    SELECT upper(r)
    FROM unnest(p.covered + CASE WHEN isempty(p.wanted) OR lower_inf(p.wanted) THEN '{}'
                                 ELSE int8multirange(int8range(NULL, lower(p.wanted))) END) AS r
    WHERE r @> w.begins
)
FROM unnest(%(sources)s::text[], %(symbols)s::text[], %(begins)s::bigint[]) AS w (source, symbol, begins)
LEFT JOIN perp_coverage AS p USING (source, symbol)

-- name: wanted
SELECT w.source, w.symbol
FROM unnest(%(sources)s::text[], %(symbols)s::text[]) AS w (source, symbol)
JOIN perp_coverage AS p USING (source, symbol)
WHERE p.wanted @> %(at)s::bigint

-- By the clock of PostgreSQL, which also stamped the heartbeat.
-- name: heartbeat_age
SELECT extract(epoch FROM now() - max(heartbeat))::float8 FROM perp_status
WHERE kind = 'stream' AND unit = %(unit)s AND state IN ('started', 'running', 'waiting')

-- Values of some series that changed after they had been stored, in a window.
-- name: changed
SELECT source, symbol, ts, "column", trim_scale(old_value)::text, trim_scale(new_value)::text, reason
FROM perp_corrections
WHERE source = ANY(%(sources)s) AND symbol = ANY(%(symbols)s) AND ts >= %(since)s AND ts < %(until)s
ORDER BY ts, source, symbol LIMIT %(limit)s
