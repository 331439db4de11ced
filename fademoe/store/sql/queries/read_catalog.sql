-- Perpspecs and their symbols, without a scan of perp_data.

-- name: perpspecs
WITH m AS MATERIALIZED (SELECT metric, title, interval FROM metric_catalog)
SELECT p.perpspec_name, p.exchange, p.metric, m.title, m.interval, p.fields
FROM perpspec_schema AS p JOIN m USING (metric)
WHERE %(names)s::text[] IS NULL OR p.perpspec_name = ANY(%(names)s::text[])
ORDER BY p.perpspec_name

-- name: names
SELECT perpspec_name FROM perpspec_schema ORDER BY perpspec_name

-- name: symbols
SELECT symbol FROM {series} WHERE source = %(source)s ORDER BY symbol

-- name: known_symbols
SELECT DISTINCT symbol FROM perp_coverage UNION SELECT symbol FROM perp_lives ORDER BY symbol

-- name: symbols_without_coverage
-- Symbols of rows without recorded coverage: one index probe per symbol (1 ms where DISTINCT takes 2 s).
WITH RECURSIVE stored AS (
    (SELECT symbol FROM perp_data WHERE source = %(source)s ORDER BY symbol LIMIT 1)
    UNION ALL
    SELECT (
        SELECT d.symbol FROM perp_data AS d
        WHERE d.source = %(source)s AND d.symbol > stored.symbol
        ORDER BY d.symbol LIMIT 1
    )
    FROM stored WHERE stored.symbol IS NOT NULL
)
SELECT symbol FROM stored WHERE symbol IS NOT NULL

-- name: first_and_last_ts
SELECT
    (SELECT min(x.ts) FROM unnest(%(symbols)s::text[]) AS s(symbol) CROSS JOIN LATERAL (
        SELECT ts FROM {rows} AS d WHERE d.source = %(source)s AND d.symbol = s.symbol ORDER BY ts LIMIT 1
    ) AS x),
    (SELECT max(x.ts) FROM unnest(%(symbols)s::text[]) AS s(symbol) CROSS JOIN LATERAL (
        SELECT ts FROM {rows} AS d WHERE d.source = %(source)s AND d.symbol = s.symbol ORDER BY ts DESC LIMIT 1
    ) AS x)

-- name: first_and_last_within
SELECT min(ts), max(ts) FROM {rows} AS d
WHERE source = %(source)s AND symbol = ANY(%(symbols)s::text[]) AND ts >= %(start)s AND ts < %(end)s

-- name: inputs
SELECT i.name
FROM perp_derived AS d, unnest(d.inputs) WITH ORDINALITY AS i(name, number)
WHERE d.source = %(source)s AND d.is_followed
ORDER BY i.number, i.name
