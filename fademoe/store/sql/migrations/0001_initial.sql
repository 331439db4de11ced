-- perp_data itself comes from 0002: partitioned by PostgreSQL, or a Timescale hypertable.

CREATE TABLE metric_catalog (
    metric      TEXT PRIMARY KEY,
    title       TEXT NOT NULL,
    interval    TEXT NOT NULL,
    columns     JSONB NOT NULL          -- [{"name", "unit", "title", "type"}] in order
);

CREATE TABLE perpspec_schema (
    perpspec_name TEXT PRIMARY KEY,     -- the value of perp_data.source
    exchange      TEXT NOT NULL,
    metric        TEXT NOT NULL REFERENCES metric_catalog (metric),
    fields        JSONB NOT NULL        -- [{"name", "unit", "title", "type"}] in order
);

CREATE TABLE perp_metadata (
    exchange       TEXT NOT NULL,
    code           TEXT NOT NULL,       -- first part of the perpspecs of this contract
    instrument     TEXT NOT NULL,       -- the exchange's own name
    symbol         TEXT NOT NULL,
    multiplier     BIGINT NOT NULL DEFAULT 1,
    contract_value NUMERIC NOT NULL DEFAULT 1,
    listed_ms      BIGINT,
    delisted_ms    BIGINT,              -- null while it trades
    seen_at        TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (code, instrument)
);
CREATE INDEX perp_metadata_symbol ON perp_metadata (symbol, code);

CREATE TABLE perp_coverage (
    source      TEXT NOT NULL,
    symbol      TEXT NOT NULL,
    wanted      INT8MULTIRANGE NOT NULL DEFAULT '{}',
    covered     INT8MULTIRANGE NOT NULL DEFAULT '{}',  -- asked for and fully answered
    absent      INT8MULTIRANGE NOT NULL DEFAULT '{}',  -- the part of covered which the exchange does not have
    wanted_from BIGINT GENERATED ALWAYS AS (lower(wanted)) STORED,
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (source, symbol)
);

CREATE TABLE perp_absence (
    source      TEXT NOT NULL,
    symbol      TEXT NOT NULL,
    start_ms    BIGINT NOT NULL,
    end_ms      BIGINT NOT NULL CHECK (end_ms > start_ms),
    reason      TEXT NOT NULL,
    checked_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (source, symbol, start_ms)
);

CREATE TABLE perp_status (
    unit       TEXT PRIMARY KEY,        -- 'stream binance', 'backfill bin-ohlcv BTC', 'worker host.123' ...
    kind       TEXT NOT NULL,           -- first word of the unit
    state      TEXT NOT NULL CHECK (state IN ('started', 'running', 'waiting', 'done', 'error', 'stopped')),
    message    TEXT NOT NULL DEFAULT '',
    source     TEXT,
    symbol     TEXT,
    rows       BIGINT NOT NULL DEFAULT 0,
    last_ts    BIGINT,                  -- newest ts covered
    interval_s INTEGER NOT NULL DEFAULT 60,  -- expected time between heartbeats; stale after three
    heartbeat  TIMESTAMPTZ NOT NULL DEFAULT now(),
    since      TIMESTAMPTZ NOT NULL DEFAULT now()   -- when it entered this state
);

CREATE TABLE perp_status_history (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    unit    TEXT NOT NULL,
    state   TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT ''
);
CREATE INDEX perp_status_history_unit ON perp_status_history (unit, at DESC);

CREATE TABLE perp_errors (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    unit        TEXT NOT NULL,
    class       TEXT NOT NULL,          -- RetryLater, Refused, BadPayload, StoreError ...
    fingerprint TEXT NOT NULL,          -- the same for errors of one cause
    message     TEXT NOT NULL,
    exchange    TEXT NOT NULL DEFAULT '',
    request     TEXT NOT NULL DEFAULT '',
    http_status INTEGER,
    excerpt     TEXT NOT NULL DEFAULT ''
);
CREATE INDEX perp_errors_at ON perp_errors (at DESC);
CREATE INDEX perp_errors_fingerprint ON perp_errors (fingerprint, at DESC);
