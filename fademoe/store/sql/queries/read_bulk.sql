-- Rows in bulk: COPY, window by window.

-- name: copy_csv
COPY ({query}) TO STDOUT WITH (FORMAT csv)

-- name: copy_text
COPY ({query}) TO STDOUT

-- name: rows
-- Symbol by symbol, in the order of the index: to sort them by time is dearer for PostgreSQL than all the rest.
SELECT {columns}
FROM {rows} AS d
WHERE d.source = %(source)s AND d.symbol = ANY(%(symbols)s) AND d.ts >= %(start)s AND d.ts < %(end)s
ORDER BY d.symbol, d.ts

-- name: rows_of_one
SELECT {columns}
FROM {rows} AS d
WHERE d.source = %(source)s AND d.symbol = %(symbol)s AND d.ts >= %(start)s AND d.ts < %(end)s
ORDER BY d.ts {direction}

-- name: iso
to_char(to_timestamp(d.ts / 1000.0) AT TIME ZONE 'UTC',
        CASE WHEN d.ts %% 1000 = 0 THEN 'YYYY-MM-DD"T"HH24:MI:SS"Z"' ELSE 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"' END)

-- name: canonical
trim_scale(d.{column}::numeric)

-- name: as_stored
d.{column}
