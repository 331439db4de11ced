-- A contract may live more than once: each life is a row, and perp_metadata is the view of the newest one. perp_terms
-- holds what else changes in a contract's life: one row for each change, with all terms from then on.
ALTER TABLE perp_metadata RENAME TO perp_lives;
ALTER INDEX perp_metadata_symbol RENAME TO perp_lives_symbol;
ALTER TABLE perp_lives DROP CONSTRAINT perp_metadata_pkey;
ALTER TABLE perp_lives
    ADD COLUMN life SMALLINT NOT NULL DEFAULT 1,
    ADD COLUMN first_trade_ms BIGINT,          -- null: not known
    ADD COLUMN last_trade_ms BIGINT,
    ADD COLUMN successor TEXT,                 -- symbol of the life after this one where that is another coin
    ADD COLUMN evidence TEXT NOT NULL DEFAULT 'list',  -- where its times come from: list, missing, archive
    ADD PRIMARY KEY (code, instrument, life);

CREATE VIEW perp_metadata AS
    SELECT exchange, code, instrument, symbol, multiplier, contract_value, listed_ms, delisted_ms, seen_at, missing_ms, life,
        evidence
    FROM perp_lives AS l
    WHERE NOT EXISTS (
        SELECT FROM perp_lives AS n WHERE n.code = l.code AND n.instrument = l.instrument AND n.life > l.life);

CREATE TABLE perp_terms (
    code           TEXT NOT NULL,
    instrument     TEXT NOT NULL,
    life           SMALLINT NOT NULL,
    since_ms       BIGINT NOT NULL,     -- from when on they are known to be valid
    multiplier     BIGINT NOT NULL,
    contract_value NUMERIC NOT NULL,    -- coins in one contract
    tick           NUMERIC,             -- quote per coin; null: not known, as below
    lot            NUMERIC,             -- coins
    min_notional   NUMERIC,             -- quote
    funding_hours  INTEGER,
    tier_unit      TEXT CHECK (tier_unit IN ('quote', 'coins')),  -- of the bounds of `tiers`
    tiers          JSONB,               -- [[upper bound, maintenance margin rate], ...], ascending, decimals as text
    evidence       TEXT NOT NULL DEFAULT 'list',
    seen_at        TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (code, instrument, since_ms)
);
