-- What an export of a range of a series says beside its rows.

-- name: state
-- Changes with every row and value that is stored, corrected or found absent in the range.
SELECT md5(concat_ws('|',
    (SELECT concat(covered * asked, absent * asked) FROM perp_coverage
     WHERE source = %(source)s AND symbol = %(symbol)s),
    (SELECT concat(count(*), ',', max(id)) FROM perp_corrections
     WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s),
    (SELECT concat(count(*), ',', max(known_to_ms)) FROM perp_arrivals
     WHERE source = %(source)s AND symbol = %(symbol)s AND start_ms < %(end)s AND end_ms > %(start)s),
    (SELECT concat(count(*), ',', max(checked_at)) FROM perp_absence
     WHERE source = %(source)s AND symbol = %(symbol)s AND start_ms < %(end)s AND end_ms > %(start)s)))
FROM (SELECT int8multirange(int8range(%(start)s, %(end)s)) AS asked) AS range_
