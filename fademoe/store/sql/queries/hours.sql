-- Hours of stored series: perp_hours, and which of them are up to date.

-- name: mark
-- VALUES: (source, symbol, hours). Hours that may be in perp_hours already: they were covered as a whole before these
-- rows came, or are made. The lock keeps other transactions from covering one of them meanwhile.
WITH changed AS (
    SELECT source, symbol, unnest(hours) AS hour_ms FROM (VALUES %s) AS given (source, symbol, hours)
), series AS (
    SELECT p.source, p.symbol, p.covered FROM perp_coverage AS p
    WHERE (p.source, p.symbol) IN (SELECT source, symbol FROM changed)
    ORDER BY p.source COLLATE "C", p.symbol COLLATE "C"
    FOR UPDATE
)
INSERT INTO perp_hours_stale (source, symbol, hour_ms)
SELECT c.source, c.symbol, c.hour_ms
FROM changed AS c
LEFT JOIN series AS s USING (source, symbol)
LEFT JOIN perp_hours_made AS m USING (source, symbol)
WHERE (coalesce(s.covered, '{}') + coalesce(m.hours, '{}')) @> int8range(c.hour_ms, c.hour_ms + 3600000)

-- name: due
-- Per series the ranges of whole hours that are covered, over, and not made; the newest ones first.
SELECT source, symbol, lower(r), upper(r)
FROM (
    SELECT source, symbol, unnest(whole - coalesce(hours, '{}')) AS r
    FROM (
        SELECT c.source, c.symbol, m.hours, (
                   SELECT coalesce(range_agg(int8range(first_ms, end_ms)) FILTER (WHERE first_ms < end_ms), '{}')
                   FROM (
                       SELECT ceil(lower(r) / 3600000.0)::bigint * 3600000 AS first_ms,
                              least(upper(r), %(until)s) / 3600000 * 3600000 AS end_ms
                       FROM unnest(c.covered) AS r
                   ) AS w
               ) AS whole
        FROM perp_coverage AS c LEFT JOIN perp_hours_made AS m USING (source, symbol)
        WHERE c.source = ANY(%(sources)s) AND NOT isempty(c.covered)
    ) AS series
) AS due
ORDER BY upper(r) DESC, source, symbol
LIMIT %(limit)s

-- name: take_stale
DELETE FROM perp_hours_stale WHERE source = %(source)s AND symbol = %(symbol)s RETURNING hour_ms

-- name: drop_unmade
DELETE FROM perp_hours_stale AS s
WHERE NOT EXISTS (
    SELECT FROM perp_hours_made AS m WHERE m.source = s.source AND m.symbol = s.symbol AND m.hours @> s.hour_ms
)

-- name: stale_series
SELECT DISTINCT source, symbol FROM perp_hours_stale ORDER BY source, symbol LIMIT %(limit)s

-- name: made_within
SELECT coalesce(hours, '{}') @> int8range(%(start)s, %(end)s)
FROM perp_hours_made WHERE source = %(source)s AND symbol = %(symbol)s

-- name: delete
DELETE FROM perp_hours
WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s

-- name: insert
INSERT INTO perp_hours (source, symbol, ts, bars, {names})
SELECT %(source)s, d.symbol, d.bucket, d.bars, {values}
FROM ({buckets}) AS d

-- name: enter_made
INSERT INTO perp_hours_made AS m (source, symbol, hours)
VALUES (%(source)s, %(symbol)s, int8multirange(int8range(%(start)s, %(end)s)))
ON CONFLICT (source, symbol) DO UPDATE SET hours = m.hours + excluded.hours

-- name: forget_before
DELETE FROM perp_hours WHERE ts < %(kept_from)s

-- name: forget_made_before
UPDATE perp_hours_made SET hours = hours - int8multirange(int8range(NULL, %(kept_from)s))
WHERE hours && int8multirange(int8range(NULL, %(kept_from)s))

-- name: up_to_date
-- Of each symbol the ranges of a window that perp_hours has, and whose rows have not changed since.
SELECT symbol, lower(r), upper(r)
FROM perp_hours_made AS m, unnest(
    m.hours * int8multirange(int8range(%(start)s, %(end)s)) - coalesce((
        SELECT range_agg(int8range(s.hour_ms, s.hour_ms + 3600000)) FROM perp_hours_stale AS s
        WHERE s.source = m.source AND s.symbol = m.symbol
    ), '{}')
) AS r
WHERE m.source = %(source)s AND m.symbol = ANY(%(symbols)s)
ORDER BY symbol, r
