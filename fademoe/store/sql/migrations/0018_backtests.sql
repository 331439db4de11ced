-- Runs of the backtester. `plan` is all that a run is made of, with the text of its strategy; so it can be run again.
CREATE TABLE perp_backtests (
    id          TEXT PRIMARY KEY,
    kind        TEXT NOT NULL CHECK (kind IN ('run', 'sweep', 'walk-forward')),
    state       TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    title       TEXT NOT NULL,           -- name of the strategy's file
    plan        JSONB NOT NULL,
    made_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    ended_at    TIMESTAMPTZ,
    progress    DOUBLE PRECISION NOT NULL DEFAULT 0,    -- share that is done, 0 to 1
    message     TEXT NOT NULL DEFAULT '',               -- of a failed one: why
    certified   BOOLEAN,
    certificate TEXT,                    -- canonical JSON
    report      JSONB,
    unknown     JSONB                    -- settlements that are not known though a position was held
);
CREATE INDEX perp_backtests_made_at ON perp_backtests (made_at DESC, id);

CREATE TABLE perp_backtest_ledger (
    run      TEXT NOT NULL REFERENCES perp_backtests (id) ON DELETE CASCADE,
    seq      BIGINT NOT NULL,
    ts       BIGINT NOT NULL,            -- the minute
    kind     TEXT NOT NULL,
    symbol   TEXT NOT NULL,
    quantity NUMERIC,                    -- signed, coins
    price    NUMERIC,
    fee      NUMERIC NOT NULL,
    amount   NUMERIC NOT NULL,           -- change of cash without the fee
    cash     NUMERIC NOT NULL,           -- after the row, as is the position
    position NUMERIC NOT NULL,
    reason   TEXT NOT NULL,
    PRIMARY KEY (run, seq)
);

CREATE TABLE perp_backtest_equity (
    run    TEXT NOT NULL REFERENCES perp_backtests (id) ON DELETE CASCADE,
    ts     BIGINT NOT NULL,              -- the minute at whose end it was so
    equity NUMERIC NOT NULL,
    cash   NUMERIC NOT NULL,
    PRIMARY KEY (run, ts)
);
