-- Rows that came so late that live evaluation had not seen them in a minute that should have read them: arrived_ms is when
-- it saw them. A replay of that minute does not see them either.
CREATE TABLE perp_late (
    source     TEXT NOT NULL,
    symbol     TEXT NOT NULL,
    ts         BIGINT NOT NULL,
    arrived_ms BIGINT NOT NULL,
    PRIMARY KEY (source, symbol, ts, arrived_ms)
);
CREATE INDEX perp_late_arrived ON perp_late (arrived_ms);

-- Points that a minute should have read and that have not come yet: live evaluation looks for them until they do.
CREATE TABLE perp_unseen (
    source TEXT NOT NULL,
    symbol TEXT NOT NULL,
    ts     BIGINT NOT NULL,
    PRIMARY KEY (source, symbol, ts)
);
