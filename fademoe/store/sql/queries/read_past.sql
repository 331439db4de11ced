-- Rows as they were known at a moment. The parts of one relation, which stands for perp_data.

-- name: lags
SELECT interval, since_ms, lag_ms FROM perp_lags WHERE source = %(source)s ORDER BY since_ms DESC

-- name: newest_correction
SELECT coalesce(max(id), 0) FROM perp_corrections

-- name: rows
-- `known_ms`: when the row was known. `is_measured`: whether that was recorded; null where that is not known. `restored`:
-- how many of the columns have the value from before a change.
(
    SELECT r.ts, r.symbol, r.source, was.interval, {values}, at.known_ms, at.is_measured, {restored} AS restored
    FROM perp_data AS r
    {changes}
    CROSS JOIN LATERAL (SELECT {interval} AS interval) AS was
    LEFT JOIN perp_minutes AS m ON m.source = r.source AND m.hour_ms = r.ts - r.ts %% 3600000
    CROSS JOIN LATERAL (SELECT m.last_lag[r.ts %% 3600000 / 60000 + 1] AS lag_ms) AS measured
    {arrivals}
    CROSS JOIN LATERAL (SELECT {known} AS known_ms, {measured} AS is_measured) AS at
    WHERE r.source = {source} {visible}
)

-- name: before
-- What this database held just before a time.
(
    SELECT r.ts, r.symbol, r.source, coalesce(change.interval, r.interval) AS interval, {values}
    FROM perp_data AS r
    {changes}
    WHERE r.ts >= {first} AND r.ts <= {last} AND change.is_added IS NOT TRUE AND NOT EXISTS (
        SELECT FROM perp_arrivals AS a
        WHERE a.source = r.source AND a.symbol = r.symbol
          AND a.start_ms <= r.ts AND a.start_ms > r.ts - 2678400000 AND a.end_ms > r.ts
          AND a.known_from_ms >= {at_ms}
    )
)

-- name: changes
-- Of each column the first change after the moment: its old value is what stood then.
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(f."column", f.old_value) AS old, bool_or(f."column" = '') AS is_added,
           max(f.old_interval) AS interval
    FROM (
        SELECT DISTINCT ON (p."column") p."column", p.old_value, p.old_interval
        FROM perp_corrections AS p
        WHERE p.source = r.source AND p.symbol = r.symbol AND p.ts = r.ts
          AND p.at > to_timestamp({at_s})
        ORDER BY p."column", p.at, p.id
    ) AS f
) AS change ON true

-- name: arrivals
LEFT JOIN LATERAL (
    SELECT max(a.known_to_ms) AS known_ms, bool_or(a.way = 'before') AS is_unrecorded
    FROM perp_arrivals AS a
    WHERE a.source = r.source AND a.symbol = r.symbol
      AND a.start_ms <= r.ts AND a.start_ms > r.ts - 2678400000 AND a.end_ms > r.ts
) AS arrival ON true

-- name: replaced
-- When the history took the place of a live sample: its value was there then, whatever its own lag.
LEFT JOIN LATERAL (
    SELECT (extract(epoch FROM max(p.at)) * 1000)::bigint AS at_ms
    FROM perp_corrections AS p
    WHERE p.source = r.source AND p.symbol = r.symbol AND p.ts = r.ts AND p.reason = 'superseded' {until}
) AS replaced ON true

-- name: stragglers
-- A live row that came long after the others of its minute is recorded by name.
LEFT JOIN LATERAL (
    SELECT max(a.known_to_ms) AS known_ms
    FROM perp_arrivals AS a
    WHERE a.source = r.source AND a.symbol = r.symbol AND a.start_ms = r.ts AND a.way = 'live'
) AS straggler ON true

-- name: until
AND p.at <= to_timestamp({at_s})

-- name: value
CASE WHEN change.old ? {name} THEN (change.old ->> {name})::{kind} ELSE r.{column} END AS {column}

-- name: restored_value
(change.old ? {name} AND (change.old ->> {name})::{kind} IS DISTINCT FROM r.{column})::int

-- name: span
WHEN was.interval = {interval} AND r.ts >= {since} THEN {value}

-- name: market_known
greatest(r.ts + {span} + greatest({lag}, measured.lag_ms), straggler.known_ms)

-- name: unless_replaced
least({known}, replaced.at_ms)

-- name: market_measured
(measured.lag_ms IS NOT NULL OR straggler.known_ms IS NOT NULL)

-- name: recorded_known
greatest(arrival.known_ms, r.ts + {span} + CASE WHEN arrival.known_ms IS NULL THEN coalesce(measured.lag_ms, {lag})
                                                ELSE measured.lag_ms END)

-- name: recorded_measured
CASE WHEN arrival.is_unrecorded THEN NULL
     WHEN arrival.known_ms IS NULL AND measured.lag_ms IS NULL THEN NULL ELSE true END

-- name: visible
AND at.known_ms <= {at_ms}

-- name: unless_added
-- It is not known since when the audit's row was there, but it was later than the moment.
CASE WHEN change.is_added THEN 9223372036854775807 ELSE {known} END
