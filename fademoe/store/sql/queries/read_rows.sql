-- Rows in pages, by key; `rows` is perp_data, or what derives them.

-- name: one_symbol
SELECT d.ts, d.symbol, d.interval, {columns}
FROM {rows} AS d
WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(low)s AND ts < %(high)s
ORDER BY ts {direction}
LIMIT %(limit)s

-- name: many_symbols
-- `edge` is the time behind which the page cannot reach, found on a few index entries of each symbol; then only rows up
-- to it are read. Without it, every symbol would be read `limit` rows deep.
WITH bounds AS (
    SELECT * FROM unnest(%(symbols)s::text[], %(lows)s::bigint[], %(highs)s::bigint[]) AS b(symbol, low, high)
), edge AS MATERIALIZED (
    SELECT (
        SELECT x.ts
        FROM bounds AS b
        CROSS JOIN LATERAL (
            SELECT d.ts FROM {rows} AS d
            WHERE d.source = %(source)s AND d.symbol = b.symbol AND d.ts >= b.low AND d.ts < b.high
            ORDER BY d.ts {direction}
            LIMIT %(each)s
        ) AS x
        ORDER BY x.ts {direction}
        OFFSET %(limit)s - 1 LIMIT 1
    ) AS ts
)
SELECT d.*
FROM edge
CROSS JOIN bounds AS b
CROSS JOIN LATERAL (
    SELECT d.ts, d.symbol, d.interval, {columns}
    FROM {rows} AS d
    WHERE source = %(source)s AND symbol = b.symbol
      AND ts >= CASE WHEN %(down)s THEN coalesce(edge.ts, b.low) ELSE b.low END
      AND ts < CASE WHEN %(down)s THEN b.high ELSE coalesce(edge.ts + 1, b.high) END
    ORDER BY ts {direction}
    LIMIT %(limit)s
) AS d
ORDER BY d.ts {direction}, d.symbol COLLATE "C" {by_symbol}
LIMIT %(limit)s

-- name: metric_page
-- The keys (ts, symbol) of a page over several perpspecs, then the rows at these keys. `edge` as in many_symbols; each key
-- has at most one row of each perpspec, so `rows` entries of the index hold at least `limit` keys.
WITH bounds AS (
    SELECT * FROM unnest(%(sources)s::text[], %(symbols)s::text[], %(lows)s::bigint[], %(highs)s::bigint[])
        AS b(source, symbol, low, high)
), edge AS MATERIALIZED (
    SELECT (
        SELECT x.ts
        FROM bounds AS b
        CROSS JOIN LATERAL (
            SELECT d.ts FROM {rows} AS d
            WHERE d.source = b.source AND d.symbol = b.symbol AND d.ts >= b.low AND d.ts < b.high
            ORDER BY d.ts {direction}
            LIMIT %(each)s
        ) AS x
        ORDER BY x.ts {direction}
        OFFSET %(rows)s - 1 LIMIT 1
    ) AS ts
), keys AS MATERIALIZED (
    SELECT DISTINCT x.ts, b.symbol COLLATE "C" AS symbol
    FROM edge
    CROSS JOIN bounds AS b
    CROSS JOIN LATERAL (
        SELECT d.ts FROM {rows} AS d
        WHERE d.source = b.source AND d.symbol = b.symbol
          AND d.ts >= CASE WHEN %(down)s THEN coalesce(edge.ts, b.low) ELSE b.low END
          AND d.ts < CASE WHEN %(down)s THEN b.high ELSE coalesce(edge.ts + 1, b.high) END
        ORDER BY d.ts {direction}
        LIMIT %(limit)s
    ) AS x
    ORDER BY x.ts {direction}, 2
    LIMIT %(limit)s
)
SELECT d.ts, d.symbol, d.source, {columns}
FROM (SELECT DISTINCT source FROM bounds) AS s
CROSS JOIN keys AS k
JOIN {rows} AS d ON d.source = s.source AND d.symbol = k.symbol AND d.ts = k.ts
ORDER BY d.ts {direction}, d.symbol COLLATE "C", d.source

-- name: holds_value
SELECT EXISTS (
    SELECT FROM {rows} AS d
    WHERE source = %(source)s AND symbol = ANY(%(symbols)s) AND ts >= %(low)s AND ts < %(high)s AND ({tests})
)
