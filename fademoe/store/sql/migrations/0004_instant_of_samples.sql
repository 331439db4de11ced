-- The ts of a live sample of open interest is the end of the minute it was taken in, as in the history: a value AT ts.
-- Until now it was the start of that minute. Each live row (interval 1m) moves by a minute; where the history has a row
-- at that ts (interval 5m) the live one goes. What is not covered any more is a gap and is fetched again.
DO $$
DECLARE
    series RECORD;
    old_ranges INT8MULTIRANGE;
    new_ranges INT8MULTIRANGE;
    history INT8MULTIRANGE;
    found BIGINT;
    kept BIGINT;
    moved BIGINT := 0;
    removed BIGINT := 0;
    is_plain BOOLEAN := (SELECT relkind = 'p' FROM pg_class WHERE oid = 'perp_data'::regclass);
BEGIN
    CREATE TEMP TABLE live_samples (ts BIGINT, oi NUMERIC, oi_usd NUMERIC) ON COMMIT DROP;
    FOR series IN
        SELECT c.source, c.symbol FROM perp_coverage c JOIN perpspec_schema s ON s.perpspec_name = c.source
        WHERE s.metric = 'oi' ORDER BY c.source, c.symbol
    LOOP
        TRUNCATE live_samples;
        INSERT INTO live_samples SELECT d.ts, d.oi, d.oi_usd FROM perp_data d
            WHERE d.source = series.source AND d.symbol = series.symbol AND d.interval = '1m';
        GET DIAGNOSTICS found = ROW_COUNT;
        CONTINUE WHEN found = 0;

        SELECT range_agg(int8range(l.ts, l.ts + 60000)) INTO old_ranges FROM live_samples l;
        DELETE FROM perp_data d WHERE d.source = series.source AND d.symbol = series.symbol AND d.interval = '1m';
        UPDATE live_samples SET ts = ts + 60000;
        DELETE FROM live_samples l USING perp_data d
            WHERE d.source = series.source AND d.symbol = series.symbol AND d.ts = l.ts;
        DELETE FROM live_samples l  -- the month of the newest one may have no partition yet
            WHERE is_plain AND to_regclass(
                'perp_data_' || to_char(to_timestamp(l.ts / 1000) AT TIME ZONE 'UTC', 'YYYY_MM')) IS NULL;
        INSERT INTO perp_data (ts, symbol, source, interval, oi, oi_usd)
            SELECT l.ts, series.symbol, series.source, '1m', l.oi, l.oi_usd FROM live_samples l;
        GET DIAGNOSTICS kept = ROW_COUNT;
        moved := moved + kept;
        removed := removed + found - kept;

        SELECT coalesce(range_agg(int8range(l.ts, l.ts + 60000)), '{}') INTO new_ranges FROM live_samples l;
        SELECT coalesce(range_agg(int8range(d.ts, d.ts + 300000)), '{}') INTO history FROM perp_data d
            WHERE d.source = series.source AND d.symbol = series.symbol AND d.interval <> '1m';
        UPDATE perp_coverage c
            SET covered = c.covered - old_ranges + c.covered * history + c.absent + new_ranges,
                absent = c.absent - new_ranges, updated_at = now()
            WHERE c.source = series.source AND c.symbol = series.symbol;
        WITH cut AS (
            DELETE FROM perp_absence a
                WHERE a.source = series.source AND a.symbol = series.symbol
                    AND int8range(a.start_ms, a.end_ms) && new_ranges
                RETURNING a.start_ms, a.end_ms, a.reason, a.checked_at)
        INSERT INTO perp_absence (source, symbol, start_ms, end_ms, reason, checked_at)
            SELECT series.source, series.symbol, lower(r), upper(r), cut.reason, cut.checked_at
            FROM cut, unnest(int8multirange(int8range(cut.start_ms, cut.end_ms)) - new_ranges) r;
    END LOOP;
    DROP TABLE live_samples;
    IF moved + removed > 0 THEN
        RAISE NOTICE 'open interest: % live rows moved to the end of their minute, % gave way to exact rows', moved, removed;
    END IF;
END $$;
