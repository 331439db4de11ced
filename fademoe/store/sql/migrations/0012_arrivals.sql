-- When rows came. What is fetched: one row per run of rows that came together; known_from_ms to known_to_ms is when they
-- were stored, and a row that several of them cover came with the latest. What is live: per source and minute the
-- greatest lag, in ms after the end of the rows' span, over all symbols.
CREATE TABLE perp_arrivals (
    source        TEXT NOT NULL,
    symbol        TEXT NOT NULL,
    start_ms      BIGINT NOT NULL,      -- rows with start_ms <= ts < end_ms, at most 31 days
    end_ms        BIGINT NOT NULL CHECK (end_ms > start_ms AND end_ms <= start_ms + 2678400000),
    way           TEXT NOT NULL CHECK (way IN ('live', 'history', 'audit', 'archive', 'before')),
    known_from_ms BIGINT,               -- null: nobody recorded it
    known_to_ms   BIGINT NOT NULL,
    file_id       BIGINT                -- of an archive: perp_files.id
);
CREATE INDEX perp_arrivals_series ON perp_arrivals (source, symbol, start_ms);

CREATE TABLE perp_minutes (
    source   TEXT NOT NULL,
    hour_ms  BIGINT NOT NULL,
    last_lag INT[] NOT NULL,            -- of each minute of the hour; null where no row came live
    rows     SMALLINT[] NOT NULL,       -- how many rows that is of
    PRIMARY KEY (source, hour_ms)
);

-- What is stored already came before now; when, nobody recorded.
INSERT INTO perp_arrivals (source, symbol, start_ms, end_ms, way, known_to_ms)
SELECT source, symbol, piece, least(piece + 2678400000, upper(covered)), 'before',
       (extract(epoch FROM now()) * 1000)::bigint
FROM perp_coverage, generate_series(lower(covered), upper(covered) - 1, 2678400000) AS piece
WHERE NOT isempty(covered);

-- A live sample whose place the exact row of the history takes is 'superseded': it is no error, but what was known then.
ALTER TABLE perp_corrections ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE perp_corrections ADD COLUMN old_interval TEXT;  -- of the row that was superseded
CREATE INDEX perp_corrections_real ON perp_corrections (id) WHERE reason = '';
