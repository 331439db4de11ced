-- The tables themselves: columns, indexes, sizes.

-- name: columns
SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = to_regclass(%(table)s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- name: indexes
SELECT c.relname, pg_get_indexdef(i.indexrelid), i.indisprimary, i.indisunique
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE i.indrelid = to_regclass(%(table)s)
ORDER BY NOT i.indisprimary, c.relname

-- name: has_lags
SELECT to_regclass('perp_lags') IS NOT NULL

-- name: lags
SELECT source, interval, lag_ms, since_ms, why FROM perp_lags ORDER BY source, interval, since_ms DESC

-- name: sizes
-- A partitioned table is empty itself: its size is that of its partitions (or of its Timescale chunks, which inherit).
WITH RECURSIVE tree AS (
    SELECT c.relname AS root, c.oid
    FROM pg_class AS c
    WHERE c.oid IN (SELECT to_regclass(name) FROM unnest(%(tables)s::text[]) AS name)
    UNION ALL
    SELECT t.root, i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
)
SELECT t.root, CASE WHEN bool_or(c.reltuples >= 0) THEN sum(greatest(c.reltuples, 0))::bigint END,
       sum(pg_total_relation_size(c.oid))::bigint, (count(*) - 1)::int
FROM tree AS t JOIN pg_class AS c ON c.oid = t.oid
GROUP BY t.root
ORDER BY t.root

-- name: is_hypertable
-- Compressed chunks lie in tables without a parent: only TimescaleDB knows the size of all of it.
SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
   AND EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('perp_data') AND relkind = 'r')

-- name: hypertable_bytes
SELECT total_bytes FROM hypertable_detailed_size('perp_data')
