-- The rows of a step as one.

-- name: buckets
-- `columns` are the aggregates of a step as they are, or what a formula makes of them.
SELECT d.bucket, d.symbol, d.bars{columns}
FROM (
    SELECT h.ts - h.ts %% %(step)s AS bucket, h.symbol, sum(h.bars)::int AS bars, {aggregates}
    FROM ({parts}) AS h
    GROUP BY 1, 2
) AS d

-- name: rows
-- Rows on the metric's grid, each of one bar. The hull of the windows lets the planner leave out partitions.
SELECT r.ts, r.symbol, 1 AS bars, {columns}
FROM unnest(%(symbols)s::text[], %(lows)s::bigint[], %(highs)s::bigint[]) AS b(symbol, low, high)
CROSS JOIN LATERAL (
    SELECT r.* FROM {rows} AS r
    WHERE r.source = {source} AND r.symbol = b.symbol AND r.ts >= b.low AND r.ts < b.high AND r.ts %% %(grid)s = 0
      AND r.ts >= %(first)s AND r.ts < %(end)s
    ORDER BY r.ts
) AS r

-- name: hours
SELECT r.ts, r.symbol, r.bars, {columns}
FROM unnest(%(hour_symbols)s::text[], %(hour_lows)s::bigint[], %(hour_highs)s::bigint[]) AS b(symbol, low, high)
JOIN perp_hours AS r ON r.source = {source} AND r.symbol = b.symbol AND r.ts >= b.low AND r.ts < b.high

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

-- name: all
CASE WHEN count({value}) = count(*) THEN bool_and({value}) END
