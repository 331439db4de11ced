-- Paper accounts. State, ledger and cursor of a minute change in one transaction.
CREATE TABLE perp_trader_accounts (
    name      TEXT PRIMARY KEY,
    plan      JSONB NOT NULL,               -- as a backtest's, with the text of the strategy
    settings  JSONB NOT NULL,               -- when off, kill switches, channels, where the file was
    made_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    since     BIGINT NOT NULL,              -- the first minute
    cursor    BIGINT NOT NULL,              -- the next minute to step
    state     TEXT NOT NULL,                -- JSON: account, attributes of the strategy, what the switches watch
    trip      TEXT,                         -- why the account is off by itself, NULL while it is not
    trip_kind TEXT
);

CREATE TABLE perp_trader_ledger (
    account  TEXT NOT NULL REFERENCES perp_trader_accounts (name) ON DELETE CASCADE,
    seq      BIGINT NOT NULL,
    ts       BIGINT NOT NULL,               -- the minute
    kind     TEXT NOT NULL,
    symbol   TEXT NOT NULL,
    quantity NUMERIC,
    price    NUMERIC,
    fee      NUMERIC NOT NULL,
    amount   NUMERIC NOT NULL,
    cash     NUMERIC NOT NULL,
    position NUMERIC NOT NULL,
    reason   TEXT NOT NULL,
    PRIMARY KEY (account, seq)
);
CREATE INDEX perp_trader_ledger_ts ON perp_trader_ledger (account, ts, seq);

CREATE TABLE perp_trader_minutes (
    account TEXT NOT NULL REFERENCES perp_trader_accounts (name) ON DELETE CASCADE,
    ts      BIGINT NOT NULL,
    equity  NUMERIC NOT NULL,
    cash    NUMERIC NOT NULL,
    missing TEXT[] NOT NULL DEFAULT '{}',   -- series that were not there when the minute was stepped
    PRIMARY KEY (account, ts)
);

-- The state before the first minute of each day, from which a reconciliation begins.
CREATE TABLE perp_trader_days (
    account TEXT NOT NULL REFERENCES perp_trader_accounts (name) ON DELETE CASCADE,
    day     BIGINT NOT NULL,                -- the minute
    state   TEXT NOT NULL,
    PRIMARY KEY (account, day)
);

-- What switched an account off and on again, with the minute from which it held.
CREATE TABLE perp_trader_events (
    account TEXT NOT NULL REFERENCES perp_trader_accounts (name) ON DELETE CASCADE,
    minute  BIGINT NOT NULL,
    is_off  BOOLEAN NOT NULL,
    reason  TEXT NOT NULL,
    at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (account, minute)
);

-- What people did: the switch of all accounts, and resets of trips. account NULL: all.
CREATE TABLE perp_trader_actions (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account TEXT,
    action  TEXT NOT NULL CHECK (action IN ('on', 'off', 'reset')),
    reason  TEXT NOT NULL,
    at      TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE perp_trader_decisions (
    account TEXT NOT NULL REFERENCES perp_trader_accounts (name) ON DELETE CASCADE,
    minute  BIGINT NOT NULL,
    symbol  TEXT NOT NULL,
    orders  JSONB NOT NULL,
    PRIMARY KEY (account, minute, symbol)
);

CREATE TABLE perp_trader_reconciliations (
    account     TEXT NOT NULL REFERENCES perp_trader_accounts (name) ON DELETE CASCADE,
    day         BIGINT NOT NULL,
    until       BIGINT NOT NULL,
    is_equal    BOOLEAN NOT NULL,
    differences JSONB NOT NULL,
    curve       JSONB NOT NULL,             -- [[minute, equity as it was, equity of the backtest]], thinned
    at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (account, day)
);
