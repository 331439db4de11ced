-- When rows came: perp_arrivals and perp_minutes.

-- name: record_windows
-- VALUES: (source, symbol, start_ms, end_ms, way, known_from_ms, known_to_ms, file_id)
INSERT INTO perp_arrivals (source, symbol, start_ms, end_ms, way, known_from_ms, known_to_ms, file_id) VALUES %s

-- name: stored_times
SELECT ts FROM perp_data
WHERE source = %(source)s AND symbol = %(symbol)s AND ts BETWEEN %(first)s AND %(last)s

-- name: files
SELECT t.ts, (
    SELECT file_id FROM perp_arrivals AS a
    WHERE a.source = %(source)s AND a.symbol = %(symbol)s
      AND a.start_ms BETWEEN t.ts - %(longest)s AND t.ts AND a.end_ms > t.ts
    ORDER BY known_to_ms DESC LIMIT 1
) FROM unnest(%(times)s::bigint[]) AS t (ts)
WHERE NOT EXISTS (
    SELECT FROM perp_corrections AS c
    WHERE c.source = %(source)s AND c.symbol = %(symbol)s AND c.ts = t.ts AND c.file_id IS NULL AND c.reason = ''
)

-- name: hours
SELECT source, hour_ms, last_lag FROM perp_minutes
WHERE source = ANY(%(sources)s) AND hour_ms = ANY(%(hours)s)

-- name: record_minutes
-- VALUES: (source, hour_ms, last_lag, rows)
INSERT INTO perp_minutes AS stored (source, hour_ms, last_lag, rows) VALUES %s
ON CONFLICT (source, hour_ms) DO UPDATE SET
    last_lag = (
        SELECT array_agg(greatest(old, new) ORDER BY place)
        FROM unnest(stored.last_lag, excluded.last_lag) WITH ORDINALITY AS u (old, new, place)
    ),
    rows = (
        SELECT array_agg(least(coalesce(old, 0) + coalesce(new, 0), 32767)::smallint ORDER BY place)
        FROM unnest(stored.rows, excluded.rows) WITH ORDINALITY AS u (old, new, place)
    )

-- name: forget_windows
DELETE FROM perp_arrivals WHERE end_ms <= %(edge_ms)s

-- name: forget_minutes
DELETE FROM perp_minutes WHERE hour_ms < %(edge_ms)s - 3600000
