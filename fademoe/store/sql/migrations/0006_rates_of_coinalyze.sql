-- The rates of Coinalyze are percent, and were stored as if they were fractions: both are divided by 100, exactly. Its
-- funding history has a row every hour: of those only the hours stay at which a rate was settled, which are the multiples
-- of eight hours, at which every contract settles, and the hours at which the rate changed.
DO $$
DECLARE
    estimates BIGINT := 0;
    settlements BIGINT := 0;
    removed BIGINT := 0;
BEGIN
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'perp_data'::regclass AND attname = 'ppr') THEN
        UPDATE perp_data SET ppr = ppr * 0.01 WHERE source IN ('c-bin-ppr', 'c-byb-ppr', 'c-okx-ppr');
        GET DIAGNOSTICS estimates = ROW_COUNT;
    END IF;
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'perp_data'::regclass AND attname = 'fr') THEN
        DELETE FROM perp_data d USING (
            SELECT source, symbol, ts, fr, lag(fr) OVER (PARTITION BY source, symbol ORDER BY ts) AS before
            FROM perp_data WHERE source IN ('c-bin-fr', 'c-byb-fr', 'c-okx-fr')
        ) AS hourly
            WHERE d.source = hourly.source AND d.symbol = hourly.symbol AND d.ts = hourly.ts
                AND hourly.ts % 28800000 <> 0 AND coalesce(hourly.fr = hourly.before, true);
        GET DIAGNOSTICS removed = ROW_COUNT;
        UPDATE perp_data SET fr = fr * 0.01, interval = 'settlement'
            WHERE source IN ('c-bin-fr', 'c-byb-fr', 'c-okx-fr');
        GET DIAGNOSTICS settlements = ROW_COUNT;
    END IF;
    IF estimates + settlements + removed > 0 THEN
        RAISE NOTICE 'Coinalyze: % estimates and % settlements from percent to fractions, % hours without a settlement removed',
            estimates, settlements, removed;
    END IF;
END $$;
