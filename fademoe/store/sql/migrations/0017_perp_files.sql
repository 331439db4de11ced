-- The files of exchanges' archives that were asked for: what they held, under which terms, and what became of them.
CREATE TABLE perp_files (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    exchange      TEXT NOT NULL,
    path          TEXT NOT NULL,        -- below the archive's address
    url           TEXT NOT NULL,
    dataset       TEXT NOT NULL,
    cadence       TEXT NOT NULL CHECK (cadence IN ('month', 'day')),
    instrument    TEXT NOT NULL,        -- the exchange's name of the contract that asked for it
    symbol        TEXT NOT NULL,
    start_ms      BIGINT NOT NULL,      -- the period of the file
    end_ms        BIGINT NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('ok', 'short', 'quarantined', 'absent')),
    reason        TEXT NOT NULL DEFAULT '',
    etag          TEXT NOT NULL DEFAULT '',
    last_modified TEXT NOT NULL DEFAULT '',
    bytes         BIGINT NOT NULL DEFAULT 0,
    sha256        TEXT NOT NULL DEFAULT '',
    checksum_ok   BOOLEAN,              -- null: the archive has no checksum of it
    terms         TEXT NOT NULL DEFAULT '',
    rows          BIGINT NOT NULL DEFAULT 0,  -- lines that lie in the contract's life
    expected      BIGINT NOT NULL DEFAULT 0,  -- lines that the calendar asks for
    first_ts      BIGINT,
    last_ts       BIGINT,
    shift_ms      INTEGER NOT NULL DEFAULT 0, -- was added to its times
    clipped       BIGINT NOT NULL DEFAULT 0,  -- lines after the contract's end
    differing     BIGINT NOT NULL DEFAULT 0,  -- values that are stored otherwise
    details       JSONB NOT NULL DEFAULT '{}',
    fetched_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    checked_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (exchange, path, instrument)
);
CREATE INDEX perp_files_series ON perp_files (exchange, dataset, symbol, start_ms);
CREATE INDEX perp_files_state ON perp_files (state) WHERE state IN ('short', 'quarantined');

-- For which ranges the files of a contract were asked: what is still missing of them is left to REST.
CREATE TABLE perp_files_asked (
    exchange   TEXT NOT NULL,
    dataset    TEXT NOT NULL,
    instrument TEXT NOT NULL,
    asked      INT8MULTIRANGE NOT NULL DEFAULT '{}',
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (exchange, dataset, instrument)
);

-- The file by which a value was corrected; null: by REST.
ALTER TABLE perp_corrections ADD COLUMN file_id BIGINT;
