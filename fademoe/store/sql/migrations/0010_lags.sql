-- How long after the end of its span a row is known, so at ts + span + lag_ms; the span is the interval, and 0 for
-- samples and settlements. It is what the feeds declare, filled in at every start
-- (fademoe.store.migrate). A changed declaration is another row, which holds from since_ms on.
CREATE TABLE perp_lags (
    source   TEXT NOT NULL,
    interval TEXT NOT NULL,             -- the value of that column in perp_data
    lag_ms   BIGINT NOT NULL CHECK (lag_ms >= 0),
    since_ms BIGINT NOT NULL,           -- of rows with ts >= since_ms
    why      TEXT NOT NULL,
    PRIMARY KEY (source, interval, since_ms)
);
