-- Monthly partitions of perp_data, named perp_data_YYYY_MM.

-- name: partitions
SELECT c.relname
FROM pg_inherits AS i
JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'perp_data'::regclass

-- name: lock_schema
SELECT pg_advisory_xact_lock(%(lock)s)

-- name: has_table
SELECT to_regclass(%(table)s) IS NOT NULL

-- name: create
CREATE TABLE {table} (LIKE perp_data INCLUDING DEFAULTS)

-- name: attach
ALTER TABLE perp_data ATTACH PARTITION {table} FOR VALUES FROM ({start}) TO ({end})

-- name: drop
DROP TABLE IF EXISTS {table}
