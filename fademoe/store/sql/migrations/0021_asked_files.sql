-- Ranges for which files were asked are kept by metric: of a file's metrics a job stores those that are wanted. What was
-- noted by dataset is forgotten: for what is still missing the files are asked for once more.
DROP TABLE perp_files_asked;
CREATE TABLE perp_files_asked (
    exchange   TEXT NOT NULL,
    metric     TEXT NOT NULL,
    instrument TEXT NOT NULL,
    asked      INT8MULTIRANGE NOT NULL DEFAULT '{}',
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (exchange, metric, instrument)
);

-- The first sample of a day may lie in the file of the day before, which was not read at the begin of a window: such
-- samples are missing again.
WITH begins AS (
    SELECT source, symbol, start_ms, end_ms, start_ms + 300000 AS next_ms
    FROM perp_absence
    WHERE source IN ('bin-oi', 'bin-lsr') AND reason = 'not in archive, not in REST' AND start_ms % 86400000 = 0
), deleted AS (
    DELETE FROM perp_absence AS p USING begins AS b
    WHERE p.source = b.source AND p.symbol = b.symbol AND p.start_ms = b.start_ms AND b.end_ms <= b.next_ms
), cut AS (
    UPDATE perp_absence AS p SET start_ms = b.next_ms FROM begins AS b
    WHERE p.source = b.source AND p.symbol = b.symbol AND p.start_ms = b.start_ms AND b.end_ms > b.next_ms
), ranges AS (
    SELECT source, symbol, range_agg(int8range(start_ms, next_ms)) AS taken FROM begins GROUP BY source, symbol
)
UPDATE perp_coverage AS p
SET covered = covered - taken, absent = absent - taken, updated_at = now()
FROM ranges
WHERE p.source = ranges.source AND p.symbol = ranges.symbol;
