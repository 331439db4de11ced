-- perp_data on TimescaleDB.

-- name: version
SELECT extversion, current_setting('timescaledb.license', true) FROM pg_extension WHERE extname = 'timescaledb'

-- name: is_available
SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
    OR (EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
        AND position('timescaledb' IN current_setting('shared_preload_libraries')) > 0)

-- name: create_extension
CREATE EXTENSION IF NOT EXISTS timescaledb

-- name: lift_limit_of_changes
SELECT set_config(name, '0', true) FROM unnest(ARRAY['timescaledb.max_tuples_decompressed_per_dml_transaction']) AS name
WHERE current_setting(name, true) IS NOT NULL

-- name: is_compressed
SELECT compression_enabled FROM timescaledb_information.hypertables
WHERE hypertable_schema = current_schema() AND hypertable_name = 'perp_data'

-- name: compress
ALTER TABLE perp_data SET
    (timescaledb.compress, timescaledb.compress_segmentby = 'source, symbol', timescaledb.compress_orderby = 'ts')

-- name: add_compression_policy
SELECT add_compression_policy('perp_data', compress_after => %(after)s::bigint)

-- name: is_partitioned
SELECT relkind = 'p' FROM pg_class WHERE oid = 'perp_data'::regclass

-- name: drop_chunks
SELECT drop_chunks('perp_data', older_than => %(edge)s::bigint)

-- name: oldest_kept_chunk
SELECT min(range_start_integer) FROM timescaledb_information.chunks
WHERE hypertable_schema = current_schema() AND hypertable_name = 'perp_data' AND range_end_integer > %(edge)s
