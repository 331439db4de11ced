-- A hypertable over integer milliseconds in chunks of 7 days.
CREATE TABLE perp_data (
    ts       BIGINT NOT NULL,
    symbol   TEXT NOT NULL,
    source   TEXT NOT NULL,
    interval TEXT NOT NULL,
    o        NUMERIC,
    h        NUMERIC,
    l        NUMERIC,
    c        NUMERIC,
    v        NUMERIC,
    PRIMARY KEY (source, symbol, ts)
);
CREATE INDEX perp_data_ts ON perp_data (ts DESC);
SELECT create_hypertable('perp_data', 'ts', chunk_time_interval => 604800000::bigint, create_default_indexes => false);
CREATE FUNCTION perp_now_ms() RETURNS BIGINT LANGUAGE SQL STABLE AS
    $$ SELECT (extract(epoch FROM now()) * 1000)::bigint $$;
SELECT set_integer_now_func('perp_data', 'perp_now_ms');
