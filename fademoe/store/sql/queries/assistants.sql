-- name: set_password
ALTER ROLE fademoe_mcp PASSWORD {password}

-- A role may end its own sessions.
-- name: end_session
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %(pid)s AND usename = current_user

-- name: close_other_databases
SELECT datname FROM pg_database
WHERE datname <> current_database() AND datallowconn AND has_database_privilege('fademoe_mcp', oid, 'CONNECT')

-- name: revoke_connect
REVOKE CONNECT, TEMP ON DATABASE {database} FROM PUBLIC

-- What the role may do beyond reading its views, each as a text; no row: nothing.
-- name: excess
SELECT 'attribute ' || attribute
FROM pg_roles, LATERAL (VALUES ('SUPERUSER', rolsuper), ('CREATEDB', rolcreatedb), ('CREATEROLE', rolcreaterole),
                               ('REPLICATION', rolreplication), ('BYPASSRLS', rolbypassrls)) AS has (attribute, holds)
WHERE rolname = 'fademoe_mcp' AND holds
UNION ALL
SELECT 'member of ' || roleid::regrole FROM pg_auth_members WHERE member = 'fademoe_mcp'::regrole
UNION ALL
SELECT privilege || ' on database ' || current_database()
FROM unnest(ARRAY['TEMP', 'CREATE']) AS privilege
WHERE has_database_privilege('fademoe_mcp', current_database(), privilege)
UNION ALL
SELECT 'CREATE on schema ' || nspname FROM pg_namespace
WHERE nspname !~ '^pg_(toast|temp)' AND has_schema_privilege('fademoe_mcp', oid, 'CREATE')
UNION ALL
SELECT 'SELECT or more on ' || c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND has_schema_privilege('fademoe_mcp', n.oid, 'USAGE')
  AND n.nspname NOT IN ('fademoe_mcp', 'pg_catalog', 'information_schema')
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
  AND (has_table_privilege('fademoe_mcp', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
       OR has_any_column_privilege('fademoe_mcp', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
UNION ALL
SELECT 'changes of ' || c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'fademoe_mcp'
  AND has_table_privilege('fademoe_mcp', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
UNION ALL
SELECT 'EXECUTE on ' || p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE (p.proname IN ('lo_create', 'lo_creat', 'lo_from_bytea', 'lo_put', 'lo_unlink', 'lo_import', 'lo_export',
                     'pg_logical_emit_message', 'pg_read_file', 'pg_read_binary_file', 'pg_ls_dir')
       OR p.proname LIKE 'dblink%%'
       OR (p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')
           AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')))
  AND has_schema_privilege('fademoe_mcp', n.oid, 'USAGE') AND has_function_privilege('fademoe_mcp', p.oid, 'EXECUTE')
