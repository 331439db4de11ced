-- Monthly partitions: made ahead, and before an older window is written (fademoe.store.partitions).
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
) PARTITION BY RANGE (ts);
CREATE INDEX perp_data_ts ON perp_data (ts DESC);
