-- The web reads as fademoe_read, which can look at our tables and change nothing. This runs at every start, after the
-- migrations, and does nothing when all is there: so a table that came later, and a database restored into another
-- cluster, are let in too. Roles belong to the whole cluster: another database may have made this one, or be making it
-- at this moment. Where the user may not make it or take it, the web reads without it, in a read-only session.
DO $$
DECLARE
    ours TEXT;
BEGIN
    IF to_regrole('fademoe_read') IS NULL THEN
        BEGIN
            CREATE ROLE fademoe_read NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN
            NULL;  -- made in between, or not ours to make
        END;
    END IF;
    IF to_regrole('fademoe_read') IS NULL THEN
        RETURN;
    END IF;
    IF NOT pg_has_role(current_user, 'fademoe_read', 'USAGE') THEN
        BEGIN
            EXECUTE format('GRANT fademoe_read TO %I', current_user);
        EXCEPTION WHEN duplicate_object OR unique_violation OR insufficient_privilege OR internal_error THEN
            NULL;  -- internal_error: granted in another database at this moment
        END;
    END IF;
    IF NOT has_schema_privilege('fademoe_read', current_schema(), 'USAGE') THEN
        BEGIN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO fademoe_read', current_schema());
        EXCEPTION WHEN insufficient_privilege THEN
            RETURN;
        END;
    END IF;
    FOR ours IN
        SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
          AND (c.relname LIKE 'perp%' OR c.relname IN ('metric_catalog', 'schema_migrations'))
          AND pg_has_role(c.relowner, 'USAGE') AND NOT has_table_privilege('fademoe_read', c.oid, 'SELECT')
    LOOP
        EXECUTE format('GRANT SELECT ON %I TO fademoe_read', ours);
    END LOOP;
END $$;
