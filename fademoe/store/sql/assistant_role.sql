-- The role of assistants, fademoe_mcp: it logs in, reads the views of the schema fademoe_mcp, and can do nothing else.
-- `fademoe mcp` runs this at its start, then assistant_views.sql, and refuses to serve when the role may do more.
-- PostgreSQL lets PUBLIC make temporary tables and large objects, and write messages into the log of changes: none can be
-- kept from one role alone, so all are revoked from PUBLIC, and the user that FadeMoe itself logs in as keeps the temporary
-- tables that it needs. What a statement sorts on disk is bounded where FadeMoe's user may set that: the role may not.
DO $$
DECLARE
    maker TEXT;
BEGIN
    IF to_regrole('fademoe_mcp') IS NULL THEN
        BEGIN
            CREATE ROLE fademoe_mcp LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION CONNECTION LIMIT 20;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- made by another process at this moment
        END;
    END IF;
    CREATE SCHEMA IF NOT EXISTS fademoe_mcp;
    IF NOT has_schema_privilege('fademoe_mcp', 'fademoe_mcp', 'USAGE') THEN
        GRANT USAGE ON SCHEMA fademoe_mcp TO fademoe_mcp;
    END IF;
    IF has_database_privilege('fademoe_mcp', current_database(), 'TEMP') THEN
        EXECUTE format('GRANT TEMP ON DATABASE %I TO %I', current_database(), current_user);
        EXECUTE format('REVOKE TEMP ON DATABASE %I FROM PUBLIC', current_database());
    END IF;
    FOR maker IN
        SELECT p.oid::regprocedure FROM pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace
          AND p.proname IN ('lo_create', 'lo_creat', 'lo_from_bytea', 'lo_put', 'lo_unlink', 'pg_logical_emit_message')
          AND has_function_privilege('fademoe_mcp', p.oid, 'EXECUTE')
    LOOP
        BEGIN
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', maker);
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;  -- not ours to revoke: the check that follows says so
        END;
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_db_role_setting
                   WHERE setrole = 'fademoe_mcp'::regrole AND 'temp_file_limit=1GB' = ANY(setconfig)) THEN
        BEGIN
            ALTER ROLE fademoe_mcp SET temp_file_limit = '1GB';
        EXCEPTION WHEN insufficient_privilege OR internal_error THEN
            NULL;  -- for superusers alone; or set by another process at this moment
        END;
    END IF;
END $$;
