-- name: ping
SELECT 1

-- name: limit_lock_waits
SELECT set_config('lock_timeout', %(milliseconds)s || 'ms', true)

-- name: limit_statements
SELECT set_config('statement_timeout', %(seconds)s || 's', false)

-- name: may_read
SELECT has_table_privilege(oid, to_regclass('perp_data'), 'SELECT') FROM pg_roles WHERE rolname = %(role)s

-- name: take_role
SELECT set_config('role', %(role)s, false)

-- name: watch_client
SELECT set_config(name, value, false)
FROM (
    VALUES
        ('tcp_keepalives_idle', %(idle_s)s::text),
        ('tcp_keepalives_interval', %(interval_s)s::text),
        ('tcp_keepalives_count', %(count)s::text)
) AS probes (name, value)
