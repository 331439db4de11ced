-- The record of migrations, and what exchanges and metrics declare.

-- name: lock_schema
SELECT pg_advisory_xact_lock(%(lock)s)

-- name: create_record
CREATE TABLE IF NOT EXISTS schema_migrations (
    name       TEXT PRIMARY KEY,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
)

-- name: has_record
SELECT to_regclass('schema_migrations') IS NOT NULL

-- name: applied
SELECT name FROM schema_migrations

-- name: others
-- The other programs of FadeMoe that are connected, and from where; those that wait for the schema are left out.
SELECT DISTINCT application_name || coalesce(' on ' || host(client_addr), '') FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND application_name LIKE 'fademoe%%' AND application_name <> ALL(%(waiting)s)
ORDER BY 1

-- name: record
INSERT INTO schema_migrations (name) VALUES (%(name)s)

-- name: encoding
SELECT datname, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()

-- name: foreign_owner
-- Whose the monthly partitioned table is, where that is neither the user nor a role that it is a member of.
SELECT current_user, pg_get_userbyid(relowner) FROM pg_class
WHERE oid = to_regclass('perp_data') AND relkind = 'p' AND NOT pg_has_role(relowner, 'USAGE')

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
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped

-- name: add_column
ALTER TABLE {table} ADD COLUMN {column} {kind}

-- name: register_lag
-- The first declaration of a source and interval holds for all times, a changed one from now on.
WITH newest AS (
    SELECT since_ms, lag_ms FROM perp_lags
    WHERE source = %(source)s AND interval = %(interval)s
    ORDER BY since_ms DESC LIMIT 1
)
INSERT INTO perp_lags AS stored (source, interval, lag_ms, since_ms, why)
SELECT %(source)s, %(interval)s, %(lag_ms)s,
       CASE WHEN newest.since_ms IS NULL THEN 0
            WHEN newest.lag_ms = %(lag_ms)s THEN newest.since_ms ELSE %(now_ms)s END,
       %(why)s
FROM (SELECT) AS one LEFT JOIN newest ON true
ON CONFLICT (source, interval, since_ms) DO UPDATE SET lag_ms = excluded.lag_ms, why = excluded.why
WHERE stored.lag_ms <> excluded.lag_ms OR stored.why <> excluded.why

-- name: drop_views
DROP VIEW IF EXISTS perp_reasons, perp_ranges, perp_parts

-- name: version_of_views
SELECT obj_description(to_regclass('perp_ranges'), 'pg_class')

-- name: set_version_of_views
COMMENT ON VIEW perp_ranges IS %(digest)s

-- name: drop_assistant_views
DO $$
DECLARE
    ours TEXT;
BEGIN
    FOR ours IN SELECT viewname FROM pg_views WHERE schemaname = 'fademoe_mcp' LOOP
        EXECUTE format('DROP VIEW fademoe_mcp.%I', ours);
    END LOOP;
END $$

-- name: drop_data_view
DROP VIEW IF EXISTS {view}

-- name: make_data_view
CREATE VIEW {view} AS SELECT ts, symbol, source, interval, {columns} FROM perp_data

-- name: data_columns
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = 'perp_data'::regclass AND attnum > 0 AND NOT attisdropped
  AND attname NOT IN ('ts', 'symbol', 'source', 'interval')
ORDER BY attnum

-- name: view_columns
SELECT attname FROM pg_attribute
WHERE attrelid = to_regclass(%(view)s) AND attnum > 4 AND NOT attisdropped
ORDER BY attnum
