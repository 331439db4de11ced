-- How complete the series are, from perp_coverage alone.
-- `wanted_now`: what is wanted up to now (wishes may have no end). `due`: the part of it whose rows should be stored by
-- now; `edges` says per perpspec by how many ms that ends before now, `edge` for a perpspec that is not declared.

-- name: series
WITH edges AS (
    SELECT * FROM unnest(%(edge_sources)s::text[], %(edges)s::bigint[]) AS e(source, edge)
), chosen AS (
    SELECT p.source, p.symbol, p.wanted_from, p.covered, p.absent,
           p.wanted * int8multirange(int8range(NULL, %(now)s - coalesce(e.edge, %(edge)s))) AS due
    FROM {series} AS p LEFT JOIN edges AS e USING (source)
    WHERE (%(sources)s::text[] IS NULL OR p.source = ANY(%(sources)s::text[]))
      AND (%(symbols)s::text[] IS NULL OR p.symbol = ANY(%(symbols)s::text[]))
      AND (p.source COLLATE "C", p.symbol COLLATE "C") > (%(after_source)s, %(after_symbol)s)
    ORDER BY p.source COLLATE "C", p.symbol COLLATE "C"
    LIMIT %(limit)s
)
SELECT source, symbol, wanted_from, upper(covered),
       (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(due) AS r)::bigint,
       (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(due * covered) AS r)::bigint,
       (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(due * absent) AS r)::bigint,
       (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(due - covered) AS r)::bigint,
       (SELECT count(*) FROM unnest(due - covered))::int
FROM chosen
ORDER BY source COLLATE "C", symbol COLLATE "C"

-- name: ranges
WITH edges AS (
    SELECT * FROM unnest(%(edge_sources)s::text[], %(edges)s::bigint[]) AS e(source, edge)
), chosen AS (
    SELECT p.source, p.symbol, p.covered, p.absent,
           p.wanted * int8multirange(int8range(NULL, %(now)s)) AS wanted_now,
           p.wanted * int8multirange(int8range(NULL, %(now)s - coalesce(e.edge, %(edge)s))) AS due
    FROM {series} AS p LEFT JOIN edges AS e USING (source)
    WHERE p.source = ANY(%(sources)s::text[]) AND p.symbol = ANY(%(symbols)s::text[])
      AND (p.source, p.symbol) IN (SELECT * FROM unnest(%(sources)s::text[], %(symbols)s::text[]))
)
SELECT source, symbol,
       (SELECT coalesce(array_agg(ARRAY[lower(r), upper(r)] ORDER BY r), '{{}}') FROM unnest(wanted_now) AS r),
       (SELECT coalesce(array_agg(ARRAY[lower(r), upper(r)] ORDER BY r), '{{}}') FROM unnest(covered) AS r),
       (SELECT coalesce(array_agg(ARRAY[lower(r), upper(r)] ORDER BY r), '{{}}') FROM unnest(absent) AS r),
       (SELECT coalesce(array_agg(ARRAY[lower(r), upper(r)] ORDER BY r), '{{}}') FROM unnest(due - covered) AS r)
FROM chosen

-- name: provisional
-- What is absent without proof and was not confirmed by a second run.
SELECT source, symbol, array_agg(ARRAY[lower(r), upper(r)] ORDER BY r)
FROM (
    SELECT source, symbol, unnest(range_agg(int8range(start_ms, end_ms))) AS r
    FROM perp_reasons
    WHERE source = ANY(%(sources)s::text[]) AND symbol = ANY(%(symbols)s::text[])
      AND (source, symbol) IN (SELECT * FROM unnest(%(sources)s::text[], %(symbols)s::text[]))
      AND reason LIKE '%%' || %(no_row)s AND checks < %(confirmed)s
    GROUP BY source, symbol
) AS ranges
GROUP BY source, symbol

-- name: lags
-- The lag of a series: from the end of what is covered to the end of what is wanted by now.
WITH edges AS (
    SELECT * FROM unnest(%(edge_sources)s::text[], %(edges)s::bigint[]) AS e(source, edge)
), ends AS (
    SELECT p.source, coalesce(e.edge, %(edge)s) AS edge, p.covered,
           p.wanted * int8multirange(int8range(NULL, %(now)s)) AS wanted_now
    FROM perp_coverage AS p LEFT JOIN edges AS e USING (source)
), lags AS (
    SELECT source, edge,
           greatest(0, upper(wanted_now) - greatest(upper(covered), lower(wanted_now))) AS lag_ms
    FROM ends
)
SELECT l.source, min(s.exchange), count(*)::int, (count(*) FILTER (WHERE lag_ms > edge))::int, max(lag_ms)
FROM lags AS l LEFT JOIN perpspec_schema AS s ON s.perpspec_name = l.source
GROUP BY l.source
ORDER BY l.source

-- name: totals
WITH edges AS (
    SELECT * FROM unnest(%(edge_sources)s::text[], %(edges)s::bigint[]) AS e(source, edge)
), ends AS (
    SELECT p.source, p.covered, p.absent, coalesce(e.edge, %(edge)s) AS edge,
           p.wanted * int8multirange(int8range(NULL, %(now)s)) AS wanted_now,
           p.wanted * int8multirange(int8range(NULL, %(now)s - coalesce(e.edge, %(edge)s))) AS due
    FROM {series} AS p LEFT JOIN edges AS e USING (source)
), states AS MATERIALIZED (
    SELECT source, covered, absent, edge, due, due - covered AS missing,
           greatest(0, upper(wanted_now) - greatest(upper(covered), lower(wanted_now))) AS lag_ms
    FROM ends
)
SELECT t.source, min(s.exchange), count(*)::int,
       sum((SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(due) AS r))::bigint,
       sum((SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(missing) AS r))::bigint,
       (count(*) FILTER (WHERE NOT isempty(missing)))::int,
       (count(*) FILTER (WHERE lag_ms > edge))::int, max(lag_ms),
       min(CASE WHEN isempty(absent) THEN lower(covered) ELSE lower(covered - absent) END),
       max(upper(covered))
FROM states AS t LEFT JOIN perpspec_schema AS s ON s.perpspec_name = t.source
GROUP BY t.source
ORDER BY t.source
