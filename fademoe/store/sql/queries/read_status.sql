-- What the units do and what went wrong: perp_status, perp_status_history, perp_errors.
-- A unit that should send heartbeats (started, running, waiting) is stale after three intervals without one.

-- name: units
WITH units AS (
    SELECT *, state IN ('started', 'running', 'waiting')
              AND heartbeat < now() - interval_s * 3 * interval '1 second' AS stale
    FROM perp_status
), ranked AS (
    SELECT CASE WHEN state = 'error' THEN 0
                WHEN stale THEN 1
                WHEN state = 'waiting' THEN 2
                WHEN state IN ('started', 'running') THEN 3
                WHEN state = 'stopped' THEN 4
                ELSE 5 END AS rank, *
    FROM units
)
SELECT rank, unit, kind, state, stale, message, source, symbol, rows, last_ts, interval_s,
       (extract(epoch FROM heartbeat) * 1000)::bigint, (extract(epoch FROM since) * 1000)::bigint
FROM ranked
WHERE (%(kinds)s::text[] IS NULL OR kind = ANY(%(kinds)s::text[]))
  AND (%(state)s = '' OR CASE WHEN %(state)s = 'stale' THEN stale ELSE state = %(state)s END)
  AND (%(find)s = '' OR position(lower(%(find)s) IN lower(unit)) > 0)
  AND (rank, unit COLLATE "C") > (%(rank)s, %(unit)s)
ORDER BY rank, unit COLLATE "C"
LIMIT %(limit)s

-- name: counts
SELECT kind,
       CASE WHEN state IN ('started', 'running', 'waiting')
                 AND heartbeat < now() - interval_s * 3 * interval '1 second' THEN 'stale'
            ELSE state END AS state,
       count(*)
FROM perp_status
GROUP BY 1, 2
ORDER BY 1, 2

-- name: error_groups
WITH newest AS (
    SELECT id, fingerprint, count, (extract(epoch FROM at) * 1000)::bigint AS at_ms,
           (extract(epoch FROM coalesce(last_at, at)) * 1000)::bigint AS last_ms
    FROM perp_errors ORDER BY at DESC LIMIT %(errors)s
), groups AS (
    SELECT fingerprint, sum(count)::bigint AS errors, min(at_ms) AS first_ms, max(last_ms) AS last_ms,
           max(id) AS newest_id
    FROM newest GROUP BY fingerprint ORDER BY max(last_ms) DESC LIMIT %(limit)s
)
SELECT g.fingerprint, g.errors, g.first_ms, g.last_ms, e.id, e.unit, e.class, e.message, e.exchange, e.request,
       e.http_status, e.excerpt
FROM groups AS g JOIN perp_errors AS e ON e.id = g.newest_id
ORDER BY g.last_ms DESC

-- name: units_of_error
SELECT DISTINCT of.unit
FROM (
    SELECT unit, other_units FROM perp_errors WHERE fingerprint = %(fingerprint)s ORDER BY at DESC LIMIT %(errors)s
) AS newest, unnest(unit || other_units) AS of(unit)
ORDER BY of.unit

-- name: errors_since
-- A row counts as a whole by its last error.
SELECT class, sum(count)::bigint FROM perp_errors
WHERE at > now() - %(seconds)s * interval '1 second' - %(together)s::interval
  AND coalesce(last_at, at) > now() - %(seconds)s * interval '1 second'
GROUP BY 1

-- name: history
SELECT id, (extract(epoch FROM at) * 1000)::bigint, unit, state, message
FROM perp_status_history
ORDER BY id DESC
LIMIT %(limit)s

-- name: history_of_unit
SELECT id, (extract(epoch FROM at) * 1000)::bigint, unit, state, message
FROM perp_status_history
WHERE unit = %(unit)s
ORDER BY id DESC
LIMIT %(limit)s
