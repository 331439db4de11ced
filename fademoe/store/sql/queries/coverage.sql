-- What is wanted, covered and absent of each series (perp_coverage, perp_absence).

-- name: want
-- VALUES: (source, symbol, multirange)
INSERT INTO perp_coverage AS p (source, symbol, wanted) VALUES %s
ON CONFLICT (source, symbol) DO UPDATE
SET wanted = p.wanted + excluded.wanted, updated_at = now()
WHERE NOT p.wanted @> excluded.wanted

-- name: lock
SELECT FROM perp_coverage WHERE (source, symbol) IN %(series)s
ORDER BY source COLLATE "C", symbol COLLATE "C"
FOR UPDATE

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
    FROM perp_ranges
    WHERE source = %(source)s AND (%(symbols)s::text[] IS NULL OR symbol = ANY(%(symbols)s::text[]))
), unconfirmed AS (
    SELECT symbol, range_agg(int8range(start_ms, end_ms)) AS provisional
    FROM perp_reasons
    WHERE source = %(source)s AND reason LIKE '%%' || %(no_row)s AND checks < %(confirmed)s
    GROUP BY symbol
)
SELECT symbol, wanted_from,
       (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(wanted) AS r)::bigint,
       (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(wanted * absent) AS r)::bigint,
       (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(wanted * absent * provisional) AS r)::bigint,
       (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(wanted - covered) AS r)::bigint
FROM chosen LEFT JOIN unconfirmed USING (symbol)
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
    RETURNING start_ms, end_ms, reason, checked_at, first_checked_at, checks, checked_by
)
INSERT INTO perp_absence
    (source, symbol, start_ms, end_ms, reason, checked_at, first_checked_at, checks, checked_by)
SELECT %(source)s, %(symbol)s, lower(r), upper(r), reason, checked_at, first_checked_at, checks, checked_by
FROM cut, unnest(int8multirange(int8range(start_ms, end_ms)) - int8multirange(int8range(%(start)s, %(end)s))) AS r

-- name: absences_within
SELECT start_ms, end_ms, reason, checks, first_checked_at, checked_at
FROM perp_absence
WHERE source = %(source)s AND symbol = %(symbol)s AND start_ms < %(end)s AND end_ms > %(start)s

-- name: add_absences
-- VALUES: absence_values
INSERT INTO perp_absence (source, symbol, start_ms, end_ms, reason, checks, checked_by, first_checked_at, checked_at)
SELECT v.source, v.symbol, v.start_ms, v.end_ms, v.reason,
       CASE WHEN v.checked_at > now() - v.apart_s * interval '1 second' THEN v.checks_before
            ELSE v.checks_before + v.checks END,
       v.checked_by,
       coalesce(v.first_checked_at, now()),
       CASE WHEN v.checked_at > now() - v.apart_s * interval '1 second' THEN v.checked_at ELSE now() END
FROM (VALUES %s) AS v (source, symbol, start_ms, end_ms, reason, checks, checked_by, checks_before, first_checked_at,
                       checked_at, apart_s)
ON CONFLICT (source, symbol, start_ms) DO UPDATE
SET end_ms = excluded.end_ms, reason = excluded.reason, checks = excluded.checks, checked_by = excluded.checked_by,
    first_checked_at = excluded.first_checked_at, checked_at = excluded.checked_at

-- name: absence_values
(%s, %s, %s::bigint, %s::bigint, %s, %s::int, %s, %s::int, %s::timestamptz, %s::timestamptz, %s::int)

-- name: join_absences
-- Make neighbouring absences of one reason with at least so many checks, in and beside a range, one.
WITH near AS (
    SELECT start_ms, end_ms, checks, first_checked_at, checked_at, checked_by
    FROM perp_absence
    WHERE source = %(source)s AND symbol = %(symbol)s AND reason = %(reason)s
      AND checks >= %(checks)s AND start_ms <= %(end)s AND end_ms >= %(start)s
), joined AS (
    SELECT lower(r) AS start_ms, upper(r) AS end_ms
    FROM unnest((SELECT range_agg(int8range(start_ms, end_ms)) FROM near)) AS r
), deleted AS (
    DELETE FROM perp_absence AS p USING near, joined
    WHERE p.source = %(source)s AND p.symbol = %(symbol)s AND p.start_ms = near.start_ms
      AND near.start_ms > joined.start_ms AND near.end_ms <= joined.end_ms
)
UPDATE perp_absence AS p SET end_ms = joined.end_ms, checked_at = now()
FROM joined
WHERE p.source = %(source)s AND p.symbol = %(symbol)s AND p.start_ms = joined.start_ms AND p.end_ms <> joined.end_ms

-- name: stored_within
-- The bounds of all windows are there so that no other partition is planned; OFFSET keeps each window an index lookup.
SELECT d.ts
FROM unnest(%(starts)s::bigint[], %(ends)s::bigint[]) AS w (start_ms, end_ms)
CROSS JOIN LATERAL (
    SELECT ts FROM perp_data
    WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= w.start_ms AND ts < w.end_ms
      AND ts BETWEEN %(first)s AND %(last)s
    OFFSET 0
) AS d

-- name: not_absent
UPDATE perp_coverage SET absent = absent - %(stored)s::int8multirange
WHERE source = %(source)s AND symbol = %(symbol)s

-- name: uncover
UPDATE perp_coverage
SET covered = covered - %(ranges)s::int8multirange, absent = absent - %(ranges)s::int8multirange, updated_at = now()
WHERE source = %(source)s AND symbol = %(symbol)s

-- name: absent_for
SELECT greatest(start_ms, %(start)s), least(end_ms, %(end)s)
FROM perp_absence
WHERE source = %(source)s AND symbol = %(symbol)s AND reason = ANY(%(reasons)s)
  AND start_ms < %(end)s AND end_ms > %(start)s
ORDER BY start_ms

-- name: wanted_absent
SELECT a.symbol, lower(r), upper(r)
FROM perp_absence AS a
JOIN perp_coverage AS p ON p.source = a.source AND p.symbol = a.symbol,
     unnest(p.wanted * int8multirange(int8range(a.start_ms, a.end_ms))) AS r
WHERE a.source = %(source)s AND a.symbol = ANY(%(symbols)s::text[]) AND a.reason = ANY(%(reasons)s)
ORDER BY a.symbol, lower(r)

-- name: unproven
SELECT greatest(a.start_ms, %(start)s), least(a.end_ms, %(end)s)
FROM perp_absence AS a
JOIN unnest(%(checks)s::int[], %(after)s::int[]) AS due (checks, after_s) ON due.checks = a.checks
WHERE a.source = %(source)s AND a.symbol = %(symbol)s AND a.reason = %(reason)s
  AND a.start_ms < %(end)s AND a.end_ms > %(start)s
  AND a.first_checked_at < now() - due.after_s * interval '1 second'
  AND a.checked_at < now() - %(apart)s * interval '1 second'
ORDER BY a.start_ms

-- name: rechecks
SELECT a.symbol, min(a.start_ms), max(a.end_ms)
FROM perp_absence AS a
JOIN unnest(%(checks)s::int[], %(after)s::int[]) AS due (checks, after_s) ON due.checks = a.checks
WHERE a.source = %(source)s AND a.reason = %(reason)s
  AND a.first_checked_at < now() - due.after_s * interval '1 second'
  AND a.checked_at < now() - %(apart)s * interval '1 second'
GROUP BY a.symbol, a.start_ms / %(span)s
ORDER BY min(a.checked_at)
LIMIT %(limit)s

-- name: has_absence
SELECT 1 FROM perp_absence WHERE source = %(source)s AND symbol = %(symbol)s AND reason = %(reason)s LIMIT 1

-- name: end_wanted
UPDATE perp_coverage
SET wanted = wanted - int8multirange(int8range(%(end)s, NULL)), resumes_with_listing = true, updated_at = now()
WHERE source = %(source)s AND symbol = %(symbol)s AND upper_inf(wanted)

-- name: resume_wanted
-- greatest() passes over NULL, the upper bound of an empty multirange.
UPDATE perp_coverage
SET wanted = wanted + int8multirange(int8range(greatest(%(start)s, upper(wanted)), NULL)),
    resumes_with_listing = false, updated_at = now()
WHERE source = %(source)s AND symbol = %(symbol)s AND resumes_with_listing
