-- The views that the role fademoe_mcp reads: each has the name and the columns of its table, so the queries of the web
-- run on them unchanged. This runs after the migrations and at the start of `fademoe mcp`; it does nothing where the
-- role is not used. A table with addresses or keys of channels is not in the list.
DO $$
DECLARE
    ours TEXT;
    home TEXT := current_schema();
BEGIN
    IF to_regrole('fademoe_mcp') IS NULL OR to_regnamespace('fademoe_mcp') IS NULL THEN
        RETURN;
    END IF;
    FOREACH ours IN ARRAY ARRAY[
        'perp_data', 'perp_coverage', 'perp_absence', 'perp_corrections', 'perp_metadata', 'perp_lives', 'perp_terms',
        'perp_status', 'perp_lags', 'perp_arrivals', 'perp_minutes', 'perp_hours', 'perp_files', 'perp_derived',
        'perp_parts', 'perp_ranges', 'perp_reasons', 'perp_rules', 'perp_silences', 'perp_alert_minutes',
        'perp_alert_states', 'perp_alert_snapshots', 'perp_alert_cursor', 'perp_transitions', 'perp_late',
        'perp_unseen', 'perp_backtests', 'perp_backtest_ledger', 'perp_backtest_equity', 'perpspec_schema',
        'metric_catalog', 'schema_migrations'
    ] LOOP
        IF to_regclass(format('%I.%I', home, ours)) IS NOT NULL THEN
            EXECUTE format('CREATE OR REPLACE VIEW fademoe_mcp.%I AS SELECT * FROM %I.%I', ours, home, ours);
            EXECUTE format('GRANT SELECT ON fademoe_mcp.%I TO fademoe_mcp', ours);
        END IF;
    END LOOP;
END $$;
