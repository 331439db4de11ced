-- name: newest
SELECT DISTINCT ON (symbol) symbol, ts, fr_hours
FROM perp_data
WHERE source = %(source)s AND ts >= %(since)s AND ts < %(until)s
ORDER BY symbol, ts DESC

-- name: newest_of_series
SELECT ts, fr_hours
FROM perp_data
WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(since)s AND ts < %(until)s
ORDER BY ts DESC LIMIT 1
