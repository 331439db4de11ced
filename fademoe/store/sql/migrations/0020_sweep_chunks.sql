-- Sweeps on the queue `research`: what each chunk of sets earned, until all chunks are in.
CREATE TABLE perp_backtest_chunks (
    run    TEXT NOT NULL REFERENCES perp_backtests (id) ON DELETE CASCADE,
    data   TEXT NOT NULL,                -- hash of the rows that the chunks were run over
    chunk  INTEGER NOT NULL,             -- the last one is the choice of the best
    share  DOUBLE PRECISION NOT NULL,    -- that is done, 0 to 1
    trials TEXT,                         -- JSON; NULL until all sets of the chunk were run
    PRIMARY KEY (run, data, chunk)
);
