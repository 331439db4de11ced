-- name: ping
SELECT 1

-- name: limit_lock_waits
SELECT set_config('lock_timeout', %(milliseconds)s || 'ms', true)
