-- What is wanted, covered and absent of each series (perp_coverage, perp_absence).

-- name: want
-- VALUES: (source, symbol, multirange)
INSERT INTO perp_coverage AS p (source, symbol, wanted) VALUES %s
ON CONFLICT (source, symbol) DO UPDATE
SET wanted = p.wanted + excluded.wanted, updated_at = now()
WHERE NOT p.wanted @> excluded.wanted

-- name: record
-- VALUES: (source, symbol, covered, absent)
INSERT INTO perp_coverage AS p (source, symbol, covered, absent) VALUES %s
ON CONFLICT (source, symbol) DO UPDATE
SET covered = p.covered + excluded.covered,
    absent = p.absent - excluded.covered + excluded.absent,
    updated_at = now()

-- name: forget_before
UPDATE perp_coverage
SET wanted = wanted - unwanted, covered = covered - dropped, absent = absent - dropped
FROM (
    SELECT int8multirange(int8range(NULL, %(wanted_from)s)) AS unwanted,
           int8multirange(int8range(NULL, %(kept_from)s)) AS dropped
) AS edges
WHERE wanted && unwanted OR covered && dropped

-- name: forget_absences_before
DELETE FROM perp_absence WHERE end_ms <= %(kept_from)s

-- name: invalidate_listing_absences
WITH deleted AS (
    DELETE FROM perp_absence
    WHERE (source, symbol) IN (SELECT unnest(%(sources)s::text[]), unnest(%(symbols)s::text[]))
      AND reason = ANY(%(reasons)s)
    RETURNING source, symbol, int8range(start_ms, end_ms) AS r
), ranges AS (
    SELECT source, symbol, range_agg(r) AS uncovered FROM deleted GROUP BY source, symbol
)
UPDATE perp_coverage AS p
SET covered = covered - uncovered, absent = absent - uncovered, updated_at = now()
FROM ranges
WHERE p.source = ranges.source AND p.symbol = ranges.symbol

-- name: missing
SELECT lower(r), upper(r)
FROM unnest(
    int8multirange(int8range(%(start)s, %(end)s))
    - coalesce((SELECT covered FROM perp_coverage WHERE source = %(source)s AND symbol = %(symbol)s), '{}')
) AS r
ORDER BY r

-- name: covered
SELECT lower(r), upper(r)
FROM perp_coverage, unnest(covered * int8multirange(int8range(%(start)s, %(end)s))) AS r
WHERE source = %(source)s AND symbol = %(symbol)s
ORDER BY r

-- name: absent_ms
SELECT coalesce(sum(upper(r) - lower(r)), 0)
FROM perp_coverage, unnest(absent * int8multirange(int8range(%(start)s, %(end)s))) AS r
WHERE source = %(source)s AND symbol = %(symbol)s

-- name: gaps
SELECT symbol, lower(r), upper(r)
FROM perp_coverage, unnest(wanted * int8multirange(int8range(NULL, %(until)s)) - covered) AS r
WHERE source = %(source)s AND (%(symbols)s::text[] IS NULL OR symbol = ANY(%(symbols)s::text[]))
ORDER BY symbol, r

-- name: totals
WITH chosen AS (
    SELECT symbol, wanted_from, covered, absent, wanted * int8multirange(int8range(NULL, %(until)s)) AS wanted
    FROM perp_coverage
    WHERE source = %(source)s AND (%(symbols)s::text[] IS NULL OR symbol = ANY(%(symbols)s::text[]))
)
SELECT symbol, wanted_from,
       (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(wanted) AS r)::bigint,
       (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(wanted * absent) AS r)::bigint,
       (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(wanted - covered) AS r)::bigint
FROM chosen
ORDER BY symbol

-- name: series_within
SELECT symbol FROM perp_coverage
WHERE source = %(source)s AND covered && int8range(%(start)s, %(end)s)
ORDER BY symbol

-- name: wanted_without_end
SELECT symbol FROM perp_coverage WHERE source = %(source)s AND upper_inf(wanted)

-- name: series_with_absences
-- VALUES: (source, symbol, start_ms, end_ms)
SELECT DISTINCT a.source, a.symbol
FROM perp_absence AS a
JOIN (VALUES %s) AS v (source, symbol, start_ms, end_ms)
  ON a.source = v.source AND a.symbol = v.symbol AND a.start_ms < v.end_ms AND a.end_ms > v.start_ms

-- name: cut_absences
-- Remove the reasons inside a range; a reason that crosses an edge of it is cut there.
WITH cut AS (
    DELETE FROM perp_absence
    WHERE source = %(source)s AND symbol = %(symbol)s AND start_ms < %(end)s AND end_ms > %(start)s
    RETURNING start_ms, end_ms, reason, checked_at
)
INSERT INTO perp_absence (source, symbol, start_ms, end_ms, reason, checked_at)
SELECT %(source)s, %(symbol)s, lower(r), upper(r), reason, checked_at
FROM cut, unnest(int8multirange(int8range(start_ms, end_ms)) - int8multirange(int8range(%(start)s, %(end)s))) AS r

-- name: add_absences
-- VALUES: (source, symbol, start_ms, end_ms, reason)
INSERT INTO perp_absence (source, symbol, start_ms, end_ms, reason) VALUES %s
ON CONFLICT (source, symbol, start_ms) DO UPDATE
SET end_ms = excluded.end_ms, reason = excluded.reason, checked_at = now()
