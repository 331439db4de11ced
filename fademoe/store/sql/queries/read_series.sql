-- What belongs to the coverage of one series: listing, absences, errors, corrections.

-- name: listing_periods
SELECT symbol, min(listed_ms), CASE WHEN bool_and(delisted_ms IS NOT NULL) THEN max(delisted_ms) END
FROM perp_lives
WHERE code = %(code)s AND symbol = ANY(%(symbols)s)
GROUP BY symbol

-- name: absences
SELECT start_ms, end_ms, reason, (extract(epoch FROM checked_at) * 1000)::bigint,
       reason NOT LIKE '%%' || %(unproven)s OR checks >= %(confirmed)s, checked_by
FROM perp_reasons
WHERE source = %(source)s AND symbol = %(symbol)s AND start_ms < %(end)s AND end_ms > %(start)s
ORDER BY start_ms
LIMIT %(limit)s

-- name: failures
SELECT id, (extract(epoch FROM at) * 1000)::bigint, class, message, request, http_status
FROM perp_errors
WHERE unit = %(unit)s OR %(unit)s = ANY(other_units)
ORDER BY at DESC
LIMIT %(limit)s

-- name: corrections
SELECT (extract(epoch FROM at) * 1000)::bigint, ts, "column", old_value::text, new_value::text
FROM perp_corrections
WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s AND reason = ''
ORDER BY ts DESC, id DESC
LIMIT %(limit)s
