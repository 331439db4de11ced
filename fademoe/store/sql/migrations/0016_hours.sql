-- Hours of stored series, aggregated as each metric declares: what longer steps are read from. The columns are those of
-- perp_data (fademoe.store.migrate keeps them alike), `bars` counts the rows on the metric's grid.
CREATE TABLE perp_hours (LIKE perp_data);
ALTER TABLE perp_hours DROP COLUMN interval;
ALTER TABLE perp_hours ADD COLUMN bars INTEGER NOT NULL;
ALTER TABLE perp_hours ADD PRIMARY KEY (source, symbol, ts);

-- Which hours of a series perp_hours has, those without any row too.
CREATE TABLE perp_hours_made (
    source TEXT NOT NULL,
    symbol TEXT NOT NULL,
    hours  INT8MULTIRANGE NOT NULL,
    PRIMARY KEY (source, symbol)
);

-- Hours whose rows changed since perp_hours was computed; entered by who changes them, in the same transaction. There is
-- no key, so that nobody waits for another one.
CREATE TABLE perp_hours_stale (
    source  TEXT NOT NULL,
    symbol  TEXT NOT NULL,
    hour_ms BIGINT NOT NULL
);
CREATE INDEX perp_hours_stale_series ON perp_hours_stale (source, symbol);

CREATE FUNCTION perp_mark_hour() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO perp_hours_stale (source, symbol, hour_ms) VALUES (OLD.source, OLD.symbol, OLD.ts - OLD.ts % 3600000);
    RETURN NULL;
END $$;
CREATE TRIGGER perp_data_mark_hour AFTER UPDATE OR DELETE ON perp_data
    FOR EACH ROW EXECUTE FUNCTION perp_mark_hour();
