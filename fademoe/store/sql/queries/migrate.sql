-- The record of migrations, and what exchanges and metrics declare.

-- name: lock_schema
SELECT pg_advisory_xact_lock(%(lock)s)

-- name: create_record
CREATE TABLE IF NOT EXISTS schema_migrations (
    name       TEXT PRIMARY KEY,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
)

-- name: applied
SELECT name FROM schema_migrations

-- name: record
INSERT INTO schema_migrations (name) VALUES (%(name)s)

-- name: register_metric
INSERT INTO metric_catalog (metric, title, interval, columns)
VALUES (%(metric)s, %(title)s, %(interval)s, %(fields)s)
ON CONFLICT (metric) DO UPDATE
SET title = excluded.title, interval = excluded.interval, columns = excluded.columns
WHERE metric_catalog.columns <> excluded.columns

-- name: register_perpspec
INSERT INTO perpspec_schema (perpspec_name, exchange, metric, fields)
VALUES (%(perpspec)s, %(exchange)s, %(metric)s, %(fields)s)
ON CONFLICT (perpspec_name) DO UPDATE SET fields = excluded.fields
WHERE perpspec_schema.fields <> excluded.fields

-- name: columns
SELECT attname FROM pg_attribute WHERE attrelid = 'perp_data'::regclass AND attnum > 0 AND NOT attisdropped

-- name: add_column
ALTER TABLE perp_data ADD COLUMN {column} {kind}
