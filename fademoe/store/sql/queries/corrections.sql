-- Stored rows beside the exchange's, and perp_corrections.

-- name: value
trim_scale({column}::numeric)::text

-- name: rows
SELECT ts, {columns}
FROM perp_data
WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s AND interval = %(interval)s
ORDER BY ts

-- name: stored_times
SELECT ts FROM perp_data WHERE source = %(source)s AND symbol = %(symbol)s AND ts = ANY(%(times)s::bigint[])

-- name: neighbours
SELECT (
    SELECT ts FROM perp_data WHERE source = %(source)s AND symbol = %(symbol)s AND ts < %(edge)s ORDER BY ts DESC LIMIT 1
), (
    SELECT ts FROM perp_data WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(edge)s ORDER BY ts LIMIT 1
)

-- name: correct
UPDATE perp_data SET {column} = %(new)s
WHERE source = %(source)s AND symbol = %(symbol)s AND ts = %(ts)s AND interval = %(interval)s
  AND {column}::numeric IS NOT DISTINCT FROM %(old)s::numeric

-- name: record
-- VALUES: (at in s, source, symbol, ts, column, old_value, new_value, file_id)
INSERT INTO perp_corrections (at, source, symbol, ts, "column", old_value, new_value, file_id) VALUES %s

-- name: record_row
(to_timestamp(%s), %s, %s, %s, %s, %s, %s, %s)
