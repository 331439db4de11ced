-- Coarser bars: the rows of a step as one, and what is covered and absent of each series.

-- name: begin_snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY

-- name: end_snapshot
ROLLBACK

-- name: buckets
-- `columns` are the aggregates of a step as they are, or what a formula makes of them.
SELECT d.bucket, d.symbol, d.bars{columns}
FROM (
    SELECT h.ts - h.ts %% %(step)s AS bucket, h.symbol, sum(h.bars)::int AS bars, {aggregates}
    FROM ({parts}) AS h
    GROUP BY 1, 2
) AS d

-- name: rows
-- Rows on the metric's grid, each of one bar.
SELECT r.ts, r.symbol, 1 AS bars, {columns}
FROM unnest(%(symbols)s::text[], %(lows)s::bigint[], %(highs)s::bigint[]) AS b(symbol, low, high)
CROSS JOIN LATERAL (
    SELECT r.* FROM {rows} AS r
    WHERE r.source = {source} AND r.symbol = b.symbol AND r.ts >= b.low AND r.ts < b.high AND r.ts %% %(grid)s = 0
    ORDER BY r.ts
) AS r

-- name: first
(array_agg({value} ORDER BY h.ts))[1]

-- name: last
(array_agg({value} ORDER BY h.ts))[count(*)]

-- name: max
max({value})

-- name: min
min({value})

-- name: sum
CASE WHEN count({value}) = count(*) THEN sum({value}) END

-- name: none
NULL

-- name: coverage
SELECT symbol,
       (SELECT coalesce(array_agg(ARRAY[lower(r), upper(r)] ORDER BY r), '{}') FROM unnest(covered * asked) AS r),
       (SELECT coalesce(array_agg(ARRAY[lower(r), upper(r)] ORDER BY r), '{}') FROM unnest(absent * asked) AS r)
FROM perp_ranges, (SELECT int8multirange(int8range(%(start)s, %(end)s)) AS asked) AS a
WHERE source = %(source)s AND symbol = ANY(%(symbols)s)
