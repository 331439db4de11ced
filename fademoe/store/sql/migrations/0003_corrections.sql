-- What the audit changed: only it may change a row.
CREATE TABLE perp_corrections (
    id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        TIMESTAMPTZ NOT NULL DEFAULT now(),
    source    TEXT NOT NULL,
    symbol    TEXT NOT NULL,
    ts        BIGINT NOT NULL,
    "column"  TEXT NOT NULL,            -- '' for a row that was missing
    old_value NUMERIC,
    new_value NUMERIC
);
CREATE INDEX perp_corrections_series ON perp_corrections (source, symbol, ts);
