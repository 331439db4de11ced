-- Alert rules, their states and transitions, and the outbox of their deliveries. Minutes are ms of their start.

CREATE TABLE perp_rules (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         TEXT NOT NULL,
    file         TEXT NOT NULL,         -- base name of the file that owns the rule
    version      TEXT NOT NULL,         -- hash of what decides the states
    spec         JSONB NOT NULL,        -- the rule as it was read
    first_minute BIGINT NOT NULL,       -- evaluated from this minute on
    end_minute   BIGINT,                -- and not in this one and later; null while it is in force
    end_reason   TEXT NOT NULL DEFAULT ''  -- changed, removed
);
CREATE UNIQUE INDEX perp_rules_in_force ON perp_rules (name) WHERE end_minute IS NULL;
CREATE INDEX perp_rules_name ON perp_rules (name, first_minute);

CREATE TABLE perp_alert_channels (
    name          TEXT PRIMARY KEY,
    file          TEXT NOT NULL,
    url           TEXT NOT NULL,        -- may hold a secret: never shown as it is
    secret        TEXT NOT NULL,        -- env:NAME or empty
    group_wait_ms BIGINT NOT NULL,
    max_age_ms    BIGINT NOT NULL
);

CREATE TABLE perp_silences (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file       TEXT NOT NULL,           -- empty: by command or page
    match      JSONB NOT NULL,          -- all of rule, code, symbol, severity that it names must be equal
    until_ms   BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE perp_alert_cursor (
    single BOOLEAN PRIMARY KEY DEFAULT true CHECK (single),
    minute BIGINT NOT NULL              -- the next minute to evaluate
);

CREATE TABLE perp_alert_minutes (
    minute       BIGINT PRIMARY KEY,
    evaluated_ms BIGINT NOT NULL,       -- rows stored by then were seen
    instances    BIGINT NOT NULL,
    took_ms      BIGINT NOT NULL,
    late         TEXT[] NOT NULL        -- series that were waited for in vain
);

-- Instances that are not idle; all others are inactive.
CREATE TABLE perp_alert_states (
    rule_id       BIGINT NOT NULL REFERENCES perp_rules (id),
    code          TEXT NOT NULL,
    symbol        TEXT NOT NULL,
    state         TEXT NOT NULL,
    since         BIGINT,
    counted       BIGINT NOT NULL,
    unknown       BIGINT NOT NULL,
    unknown_since BIGINT,
    PRIMARY KEY (rule_id, code, symbol)
);

-- The states at whole hours, so that a replay can begin with what was then.
CREATE TABLE perp_alert_snapshots (
    rule_id BIGINT NOT NULL REFERENCES perp_rules (id),
    minute  BIGINT NOT NULL,            -- the states before this minute was evaluated
    states  JSONB NOT NULL,             -- [[code, symbol, state, since, counted, unknown, unknown_since]]
    PRIMARY KEY (rule_id, minute)
);

CREATE TABLE perp_transitions (
    id       TEXT PRIMARY KEY,          -- hash of rule, version, code, symbol, minute, state
    rule     TEXT NOT NULL,
    version  TEXT NOT NULL,
    code     TEXT NOT NULL,
    symbol   TEXT NOT NULL,
    minute   BIGINT NOT NULL,
    state    TEXT NOT NULL,
    since    BIGINT,                    -- the minute of the transition that it ends
    reason   TEXT NOT NULL,
    severity TEXT NOT NULL,
    message  TEXT NOT NULL,
    values   JSONB NOT NULL,
    at       TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX perp_transitions_minute ON perp_transitions (minute DESC, id);
CREATE INDEX perp_transitions_instance ON perp_transitions (rule, code, symbol, minute DESC);

-- One message: the transitions of one rule in one minute on one channel.
CREATE TABLE perp_deliveries (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel    TEXT NOT NULL,
    rule       TEXT NOT NULL,
    minute     BIGINT NOT NULL,
    due_ms     BIGINT NOT NULL,         -- when it may be tried next
    attempts   INTEGER NOT NULL DEFAULT 0,
    state      TEXT NOT NULL DEFAULT 'waiting',
    webhook_id TEXT UNIQUE,             -- set with the body before the first attempt; neither changes afterwards
    body       TEXT,
    settled_ms BIGINT,
    UNIQUE (channel, rule, minute)
);
CREATE INDEX perp_deliveries_waiting ON perp_deliveries (channel, minute) WHERE state = 'waiting';

CREATE TABLE perp_outbox (
    transition TEXT NOT NULL REFERENCES perp_transitions (id),
    channel    TEXT NOT NULL,
    delivery   BIGINT NOT NULL REFERENCES perp_deliveries (id),
    silenced   BOOLEAN NOT NULL,
    state      TEXT NOT NULL DEFAULT 'waiting',
    PRIMARY KEY (transition, channel)
);
CREATE INDEX perp_outbox_delivery ON perp_outbox (delivery);

CREATE TABLE perp_attempts (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery BIGINT NOT NULL REFERENCES perp_deliveries (id),
    number   INTEGER NOT NULL,
    at_ms    BIGINT NOT NULL,
    took_ms  BIGINT NOT NULL,
    status   INTEGER,                   -- of HTTP
    error    TEXT NOT NULL              -- empty: delivered
);
CREATE INDEX perp_attempts_delivery ON perp_attempts (delivery, id);
