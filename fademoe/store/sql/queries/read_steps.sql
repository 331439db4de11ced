-- What coarser bars are read with.

-- name: coverage
SELECT symbol,
       (SELECT coalesce(array_agg(ARRAY[lower(r), upper(r)] ORDER BY r), '{}') FROM unnest(covered * asked) AS r),
       (SELECT coalesce(array_agg(ARRAY[lower(r), upper(r)] ORDER BY r), '{}') FROM unnest(absent * asked) AS r)
FROM perp_ranges, (SELECT int8multirange(int8range(%(start)s, %(end)s)) AS asked) AS a
WHERE source = %(source)s AND symbol = ANY(%(symbols)s)
