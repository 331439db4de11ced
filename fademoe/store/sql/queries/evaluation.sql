-- What the evaluation of expressions reads and records.

-- name: value
{column}::numeric

-- name: rows
SELECT wanted.symbol, found.*
FROM unnest(%(symbols)s::text[], %(starts)s::bigint[], %(ends)s::bigint[]) AS wanted (symbol, start_ms, end_ms)
CROSS JOIN LATERAL (
    SELECT ts, interval, {columns} FROM {relation} AS stored
    WHERE source = %(source)s AND symbol = wanted.symbol AND ts >= wanted.start_ms AND ts < wanted.end_ms
) AS found

-- name: rows_before
-- Computed rows as they were just before a time each.
SELECT wanted.symbol, wanted.ts, wanted.at_ms, found.*
FROM unnest(%(symbols)s::text[], %(times)s::bigint[], %(before)s::bigint[]) AS wanted (symbol, ts, at_ms)
CROSS JOIN LATERAL (
    SELECT interval, {columns} FROM {relation} AS computed
    WHERE source = %(source)s AND symbol = wanted.symbol AND ts = wanted.ts
) AS found

-- name: long_column
array_agg({column}::float8 ORDER BY ts), coalesce(max(scale(trim_scale({column}::numeric))), 0),
coalesce(max(abs({column})), 0)

-- name: long
-- Whole series as arrays: ts, and of each column the values, the decimal places that all of them need and the largest.
SELECT wanted.symbol, found.*
FROM unnest(%(symbols)s::text[], %(starts)s::bigint[], %(ends)s::bigint[]) AS wanted (symbol, start_ms, end_ms)
CROSS JOIN LATERAL (
    SELECT array_agg(ts ORDER BY ts), {columns} FROM {relation} AS stored
    WHERE source = %(source)s AND symbol = wanted.symbol AND ts >= wanted.start_ms AND ts < wanted.end_ms
) AS found

-- name: changed_since
-- From the first to the last row of each symbol that was seen, or seen otherwise, only after a time.
SELECT symbol, min(first), max(last) FROM (
    SELECT symbol, ts AS first, ts AS last FROM perp_late WHERE source = ANY(%(sources)s) AND arrived_ms > %(seen)s
    UNION ALL SELECT symbol, ts, ts FROM perp_unseen WHERE source = ANY(%(sources)s)
    UNION ALL SELECT symbol, ts, ts FROM perp_corrections
              WHERE source = ANY(%(sources)s) AND at > to_timestamp(%(seen)s / 1000.0)
    UNION ALL SELECT symbol, start_ms, end_ms - 1 FROM perp_arrivals
              WHERE source = ANY(%(sources)s) AND known_from_ms > %(seen)s
) AS changed
WHERE symbol = ANY(%(symbols)s) AND last >= %(start)s AND first < %(end)s
GROUP BY symbol

-- name: covered
-- What was answered of each series within a range, without what the exchange does not have.
SELECT wanted.symbol, lower(piece), upper(piece)
FROM unnest(%(symbols)s::text[], %(starts)s::bigint[], %(ends)s::bigint[]) AS wanted (symbol, start_ms, end_ms)
JOIN {ranges} AS stored ON stored.source = %(source)s AND stored.symbol = wanted.symbol
CROSS JOIN LATERAL unnest(
    (stored.covered - stored.absent) * int8multirange(int8range(wanted.start_ms, wanted.end_ms))
) AS piece
ORDER BY wanted.symbol, lower(piece)

-- name: uncovered
-- The series of which a point was not answered yet.
SELECT wanted.source, wanted.symbol
FROM unnest(%(sources)s::text[], %(symbols)s::text[], %(points)s::bigint[]) AS wanted (source, symbol, point)
LEFT JOIN {ranges} AS stored USING (source, symbol)
WHERE stored.covered IS NULL OR NOT stored.covered @> wanted.point

-- name: late
SELECT source, symbol, ts, arrived_ms FROM perp_late
WHERE source = ANY(%(sources)s) AND symbol = ANY(%(symbols)s) AND ts >= %(start)s AND ts < %(end)s
ORDER BY source, symbol, ts, arrived_ms

-- name: add_late
-- VALUES: (source, symbol, ts, arrived_ms)
INSERT INTO perp_late (source, symbol, ts, arrived_ms) VALUES %s ON CONFLICT DO NOTHING

-- name: corrections
SELECT source, symbol, ts, "column", old_value, reason, old_interval, (extract(epoch FROM at) * 1000)::bigint
FROM perp_corrections
WHERE source = ANY(%(sources)s) AND symbol = ANY(%(symbols)s) AND ts >= %(start)s AND ts < %(end)s
ORDER BY source, symbol, ts, id DESC

-- name: unseen
SELECT source, symbol, ts FROM perp_unseen WHERE source = ANY(%(sources)s)

-- name: add_unseen
-- VALUES: (source, symbol, ts)
-- Series that are not wanted get no rows.
INSERT INTO perp_unseen (source, symbol, ts)
SELECT found.source, found.symbol, found.ts
FROM (VALUES %s) AS found (source, symbol, ts)
JOIN {ranges} AS stored USING (source, symbol)
WHERE stored.wanted @> found.ts
ON CONFLICT DO NOTHING

-- name: drop_unseen
DELETE FROM perp_unseen AS stored
USING unnest(%(sources)s::text[], %(symbols)s::text[], %(times)s::bigint[]) AS found (source, symbol, ts)
WHERE (stored.source, stored.symbol, stored.ts) = (found.source, found.symbol, found.ts)

-- name: forget_unseen
DELETE FROM perp_unseen WHERE ts < %(before)s

-- name: arrivals
-- When rows came, where that is known of the series.
SELECT source, symbol, start_ms, end_ms, known_from_ms FROM perp_arrivals
WHERE source = ANY(%(sources)s) AND symbol = ANY(%(symbols)s) AND known_from_ms IS NOT NULL
  AND start_ms >= %(start)s - 2678400000 AND start_ms < %(end)s AND end_ms > %(start)s

-- name: newest_correction
SELECT coalesce(max(id), 0) FROM perp_corrections

-- name: corrections_since
-- Those of the sources with an id above, the newest thousand ids again: a transaction may commit behind a later one.
SELECT id, source, symbol, ts, reason, old_interval, (extract(epoch FROM at) * 1000)::bigint
FROM perp_corrections
WHERE id > %(after)s AND source = ANY(%(sources)s)
ORDER BY id

-- name: listings
SELECT code, symbol, listed_ms, delisted_ms,
       EXISTS (SELECT FROM perp_coverage AS wanted
               WHERE wanted.symbol = listed.symbol AND wanted.source LIKE listed.code || '-%%')
FROM perp_lives AS listed
WHERE code = ANY(%(codes)s)
ORDER BY code, symbol COLLATE "C", listed_ms NULLS FIRST
