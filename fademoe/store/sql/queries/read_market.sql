-- What backtests and paper accounts read: whole ranges of a series, and what is covered and absent of it.

-- name: value
trim_scale({column}::numeric)

-- name: lines
-- COPY writes them as certificates hash them: tabs between the values, \N for none.
COPY (
    SELECT ts, {columns}
    FROM {rows} AS d
    WHERE source = {source} AND symbol = {symbol} AND ts >= {start} AND ts < {end}
    ORDER BY ts
) TO STDOUT

-- name: timed_lines
COPY (
    SELECT ts, interval, {columns}
    FROM {rows} AS d
    WHERE source = {source} AND symbol = {symbol} AND ts >= {start} AND ts < {end}
    ORDER BY ts
) TO STDOUT

-- name: coverage
SELECT (SELECT coalesce(array_agg(ARRAY[lower(r), upper(r)] ORDER BY r), '{}') FROM unnest(covered) AS r),
       (SELECT coalesce(array_agg(ARRAY[lower(r), upper(r)] ORDER BY r), '{}') FROM unnest(absent) AS r)
FROM perp_ranges
WHERE source = %(source)s AND symbol = %(symbol)s

-- name: later
-- What of a series before a moment came after it: was fetched, was added by the audit, or came live. A lag is an INT, so nothing
-- that came live is later than 25 days.
SELECT start_ms, end_ms FROM perp_arrivals
WHERE source = %(source)s AND symbol = %(symbol)s AND known_to_ms > %(at)s AND start_ms < %(at)s
UNION ALL
SELECT ts, ts + 1 FROM perp_corrections
WHERE source = %(source)s AND symbol = %(symbol)s AND ts < %(at)s AND "column" = ''
  AND at > to_timestamp(%(at)s / 1000.0)
UNION ALL
SELECT minute, minute + 60000
FROM perp_minutes, unnest(last_lag) WITH ORDINALITY AS lags (lag_ms, place),
     LATERAL (SELECT hour_ms + (place - 1) * 60000 AS minute) AS m
WHERE source = %(source)s AND hour_ms BETWEEN %(at)s - 2160000000 AND %(at)s AND lag_ms IS NOT NULL
  AND minute + %(span)s + lag_ms > %(at)s

-- name: lags
SELECT DISTINCT ON (source, interval) source, interval, lag_ms
FROM perp_lags
ORDER BY source, interval, since_ms DESC

-- name: contracts
SELECT symbol, listed_ms, delisted_ms
FROM perp_lives
WHERE code = %(code)s AND (%(symbols)s::text[] IS NULL OR symbol = ANY(%(symbols)s::text[]))
ORDER BY symbol COLLATE "C", listed_ms NULLS FIRST

-- name: newest_correction
SELECT max(id) FROM perp_corrections

-- name: corrections
SELECT count(*) FROM perp_corrections
WHERE source = ANY(%(sources)s) AND symbol = ANY(%(symbols)s) AND ts >= %(start)s AND ts < %(end)s
