-- The state of every unit, its history, and the errors.

-- name: last_ts
SELECT last_ts FROM perp_status WHERE unit = %(unit)s

-- name: failed_backfills
SELECT symbol, message
FROM perp_status
WHERE kind = 'backfill' AND state = 'error' AND source = %(source)s AND symbol = ANY(%(symbols)s)
ORDER BY symbol

-- name: report
WITH before AS (
    SELECT state FROM perp_status WHERE unit = %(unit)s
), news AS (
    INSERT INTO perp_status AS p (unit, kind, state, message, source, symbol, rows, last_ts, interval_s)
    VALUES (%(unit)s, %(kind)s, %(state)s, %(message)s, %(source)s, %(symbol)s, %(rows)s, %(last_ts)s, %(interval_s)s)
    ON CONFLICT (unit) DO UPDATE
    SET state = excluded.state, message = excluded.message, rows = p.rows + excluded.rows,
        last_ts = greatest(p.last_ts, excluded.last_ts), interval_s = excluded.interval_s, heartbeat = now(),
        since = CASE WHEN p.state = excluded.state THEN p.since ELSE now() END
)
INSERT INTO perp_status_history (unit, state, message)
SELECT %(unit)s, %(state)s, %(message)s
WHERE NOT EXISTS (
    SELECT FROM before
    WHERE state = %(state)s OR state = ANY(%(routine)s::text[]) AND %(state)s = ANY(%(routine)s::text[])
)

-- name: record_action
INSERT INTO perp_status_history (unit, state, message) VALUES (%(unit)s, 'done', %(message)s)

-- name: record_error
-- Count the error in the row of the same cause that began shortly before, else add a row. Without `any_unit` only an
-- equal error of the same unit is the same cause. Of two sessions at once each may add a row.
WITH counted AS (
    UPDATE perp_errors
    SET count = count + 1, last_at = now(),
        other_units = CASE WHEN %(unit)s = unit OR %(unit)s = ANY(other_units) THEN other_units
                           ELSE other_units || %(unit)s::text END
    WHERE id = (
        SELECT max(id) FROM perp_errors
        WHERE fingerprint = %(fingerprint)s AND exchange = %(exchange)s AND at > now() - %(together)s::interval
          AND CASE WHEN %(any_unit)s THEN split_part(unit, ' ', 1) = split_part(%(unit)s, ' ', 1)
                   ELSE (unit, request, message) = (%(unit)s, %(request)s, %(message)s) END
    )
    RETURNING id
)
INSERT INTO perp_errors (unit, class, fingerprint, message, exchange, request, http_status, excerpt)
SELECT %(unit)s, %(class)s, %(fingerprint)s, %(message)s, %(exchange)s, %(request)s, %(http_status)s, %(excerpt)s
WHERE NOT EXISTS (SELECT FROM counted)

-- name: forget_errors
DELETE FROM perp_errors
WHERE at < now() - %(age)s::interval OR id <= (SELECT max(id) FROM perp_errors) - %(rows)s

-- name: forget_history
DELETE FROM perp_status_history
WHERE at < now() - %(age)s::interval OR id <= (SELECT max(id) FROM perp_status_history) - %(rows)s

-- name: forget_corrections
DELETE FROM perp_corrections
WHERE reason = '' AND (
    at < now() - %(age)s::interval
    OR id <= (SELECT id FROM perp_corrections WHERE reason = '' ORDER BY id DESC OFFSET %(rows)s LIMIT 1))

-- name: forget_superseded
DELETE FROM perp_corrections
WHERE reason <> ''
  AND (at < now() - %(age)s::interval OR id <= (SELECT max(id) FROM perp_corrections) - %(rows)s)
