-- What a certificate says of a window of a series, [start, end), on a grid of steps.

-- name: value
coalesce(trim_scale({column}::numeric)::text, '\N')

-- name: text
coalesce({column}, '\N')

-- name: lines
SELECT concat_ws(E'\t', ts, {columns})
FROM {rows} AS d
WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s
ORDER BY ts

-- name: missing_steps
-- The steps of the window, the rows that are known, and the steps of which any part is not covered or not known yet.
window_ AS (
    SELECT int8multirange(int8range(%(start)s, %(end)s)) AS steps
), known AS (
    SELECT ts FROM {known} AS d
    WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s
), missing AS (
    SELECT coalesce(range_agg(int8range(
               lower(r) / %(step)s * %(step)s, (upper(r) + %(step)s - 1) / %(step)s * %(step)s)), '{{}}')
           + {later} AS steps
    FROM window_, unnest(window_.steps - coalesce((
        SELECT covered FROM perp_ranges WHERE source = %(source)s AND symbol = %(symbol)s), '{{}}')) AS r
)

-- name: steps
-- How many steps are present, missing, neither of them nor absent, and absent without being confirmed.
WITH {missing}, stored AS (
    SELECT coalesce(range_agg(int8range(ts / %(step)s * %(step)s, (ts / %(step)s + 1) * %(step)s)), '{{}}') AS steps
    FROM known
), absences AS (
    SELECT coalesce(range_agg(steps), '{{}}') AS steps,
           coalesce(range_agg(steps) FILTER (WHERE reason LIKE '%%' || %(no_row)s AND checks < %(confirmed)s), '{{}}') AS provisional
    FROM (
        SELECT int8range(start_ms / %(step)s * %(step)s, (end_ms + %(step)s - 1) / %(step)s * %(step)s) AS steps,
               reason, checks
        FROM perp_reasons
        WHERE source = %(source)s AND symbol = %(symbol)s AND start_ms < %(end)s AND end_ms > %(start)s
    ) AS a
), parts AS (
    SELECT stored.steps - missing.steps AS present,
           missing.steps AS missing,
           window_.steps - stored.steps - missing.steps - absences.steps AS unexplained,
           (window_.steps - stored.steps - missing.steps) * absences.provisional AS provisional
    FROM window_, stored, missing, absences
)
SELECT (SELECT coalesce(sum(upper(r) - lower(r)), 0) / %(step)s FROM unnest(present) AS r)::bigint,
       (SELECT coalesce(sum(upper(r) - lower(r)), 0) / %(step)s FROM unnest(missing) AS r)::bigint,
       (SELECT coalesce(sum(upper(r) - lower(r)), 0) / %(step)s FROM unnest(unexplained) AS r)::bigint,
       (SELECT coalesce(sum(upper(r) - lower(r)), 0) / %(step)s FROM unnest(provisional) AS r)::bigint
FROM parts

-- name: none_later
'{{}}'::int8multirange

-- name: later
-- The steps from a moment on, and those with a row that was not known then.
coalesce((
    SELECT range_agg(int8range(ts / %(step)s * %(step)s, (ts / %(step)s + 1) * %(step)s))
    FROM {rows} AS d
    WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s
      AND NOT EXISTS (SELECT FROM known WHERE known.ts = d.ts)
), '{{}}') + (SELECT steps FROM window_) * int8multirange(int8range(%(at)s / %(step)s * %(step)s, NULL))

-- name: absent_steps
-- How many steps without a row, and not missing, are absent, by reason; a step counts once, for the first of its reasons.
WITH {missing}, stored AS (
    SELECT coalesce(range_agg(int8range(ts / %(step)s * %(step)s, (ts / %(step)s + 1) * %(step)s)), '{{}}') AS steps
    FROM {rows} AS d
    WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s
), absent AS (
    SELECT reason, range_agg(int8range(
               start_ms / %(step)s * %(step)s, (end_ms + %(step)s - 1) / %(step)s * %(step)s)) AS steps
    FROM perp_reasons
    WHERE source = %(source)s AND symbol = %(symbol)s AND start_ms < %(end)s AND end_ms > %(start)s
    GROUP BY reason
)
SELECT a.reason, (sum(upper(r) - lower(r)) / %(step)s)::bigint
FROM window_, stored, missing, absent AS a, unnest(
    a.steps * window_.steps - stored.steps - missing.steps - coalesce((
        SELECT range_agg(e) FROM absent AS b, unnest(b.steps) AS e WHERE b.reason < a.reason), '{{}}')
) AS r
GROUP BY a.reason
ORDER BY a.reason

-- name: count
SELECT count(*) FROM {rows} AS d
WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s
