-- The views that the role fademoe_mcp reads: each has the name and columns of its table or view, so the queries of the
-- web run on them unchanged. This runs after the migrations and at the start of `fademoe mcp`; it does nothing where the
-- role is not used. Left out: addresses and keys of channels, what was sent to them, and the texts of failed requests.
DO $$
DECLARE
    ours TEXT;
    home TEXT := current_schema();
BEGIN
    IF to_regrole('fademoe_mcp') IS NULL OR to_regnamespace('fademoe_mcp') IS NULL THEN
        RETURN;
    END IF;
    FOR ours IN
        SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = home::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
          AND (c.relname LIKE 'perp%' OR c.relname LIKE 'data\_%' OR c.relname IN ('metric_catalog', 'schema_migrations'))
          AND c.relname NOT IN ('perp_alert_channels', 'perp_deliveries', 'perp_outbox', 'perp_attempts', 'perp_errors')
        ORDER BY c.relkind <> 'v', c.relname
    LOOP
        EXECUTE format('CREATE OR REPLACE VIEW fademoe_mcp.%I AS SELECT * FROM %I.%I', ours, home, ours);
        EXECUTE format('GRANT SELECT ON fademoe_mcp.%I TO fademoe_mcp', ours);
    END LOOP;
END $$;
