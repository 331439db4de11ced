-- The rows of a series as a chart draws them.

-- name: rows
SELECT ts, {columns}
FROM perp_data
WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s
ORDER BY ts

-- name: steps
-- The first and the last row of a step are read by key, which is faster than collecting all rows of the step.
WITH steps AS (
    SELECT ts - ts %% %(step)s AS step, min(ts) AS first_ts, max(ts) AS last_ts{totals}
    FROM perp_data
    WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s
    GROUP BY 1
)
SELECT s.step, {columns}
FROM steps AS s
JOIN perp_data AS f ON f.source = %(source)s AND f.symbol = %(symbol)s AND f.ts = s.first_ts
JOIN perp_data AS t ON t.source = %(source)s AND t.symbol = %(symbol)s AND t.ts = s.last_ts
ORDER BY s.step
