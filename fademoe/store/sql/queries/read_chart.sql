-- The rows of a series as a chart draws them.

-- name: rows
SELECT ts, {columns}
FROM {rows} AS d
WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s
ORDER BY ts
