-- name: newest
SELECT DISTINCT ON (symbol) symbol, ts, fr_hours
FROM perp_data
WHERE source = %(source)s AND ts >= %(since)s AND ts < %(until)s
ORDER BY symbol, ts DESC
