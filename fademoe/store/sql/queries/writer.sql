-- Rows into perp_data.

-- name: stored_times
SELECT array_agg(ts) FROM (
    SELECT ts FROM perp_data
    WHERE source = %(source)s AND symbol = %(symbol)s AND ts BETWEEN %(first)s AND %(last)s
    ORDER BY ts
) AS stored

-- name: stored_times_of_interval
SELECT array_agg(ts) FROM (
    SELECT ts FROM perp_data
    WHERE source = %(source)s AND symbol = %(symbol)s AND ts BETWEEN %(first)s AND %(last)s
      AND interval = %(interval)s
    ORDER BY ts
) AS stored

-- name: is_any_stored
SELECT EXISTS (
    SELECT FROM unnest(%(sources)s::text[], %(symbols)s::text[], %(times)s::bigint[]) AS incoming (source, symbol, ts)
    CROSS JOIN LATERAL (
        SELECT FROM perp_data
        WHERE source = incoming.source AND symbol = incoming.symbol AND ts = incoming.ts
        LIMIT 1  -- a probe of the primary key for each row, whatever the planner thinks of their number
    ) AS stored
)

-- name: is_sampled
SELECT EXISTS (
    SELECT FROM perp_data
    WHERE source = %(source)s AND symbol = %(symbol)s AND ts BETWEEN %(first)s AND %(last)s
      AND interval <> %(interval)s
)

-- name: begin_copy
SAVEPOINT fresh

-- name: undo_copy
ROLLBACK TO SAVEPOINT fresh

-- name: end_copy
RELEASE SAVEPOINT fresh

-- name: copy
COPY {table} ({columns}) FROM STDIN WITH (NULL 'None')

-- name: create_incoming
CREATE TEMP TABLE IF NOT EXISTS perp_incoming (LIKE perp_data) ON COMMIT DROP

-- name: empty_incoming
TRUNCATE perp_incoming

-- name: insert_incoming
INSERT INTO perp_data ({columns})
SELECT DISTINCT ON (source, symbol, ts) {columns} FROM perp_incoming ORDER BY source, symbol, ts
ON CONFLICT DO NOTHING
RETURNING source, symbol, ts

-- name: record_superseded
-- At least the first column of each replaced row, which also tells its interval.
INSERT INTO perp_corrections (at, source, symbol, ts, "column", old_value, new_value, reason, old_interval)
SELECT to_timestamp(%(at_s)s), stored.source, stored.symbol, stored.ts, cell.name, cell.old_value,
       coalesce(cell.new_value, cell.old_value), 'superseded', stored.interval
FROM perp_data AS stored
JOIN (
    SELECT DISTINCT ON (source, symbol, ts) * FROM perp_incoming ORDER BY source, symbol, ts
) AS incoming USING (source, symbol, ts)
CROSS JOIN LATERAL (VALUES {cells}) AS cell (name, old_value, new_value)
WHERE stored.interval <> incoming.interval
  AND (cell.name = %(first)s OR cell.old_value IS DISTINCT FROM coalesce(cell.new_value, cell.old_value))
ORDER BY stored.source, stored.symbol, stored.ts
FOR UPDATE OF stored
RETURNING source, symbol, ts

-- name: superseded_cell
({name}, stored.{column}::numeric, incoming.{column}::numeric)

-- name: replace_samples
UPDATE perp_data AS stored SET interval = incoming.interval, {changes}
FROM (
    SELECT DISTINCT ON (source, symbol, ts) * FROM perp_incoming ORDER BY source, symbol, ts
) AS incoming
WHERE stored.source = incoming.source AND stored.symbol = incoming.symbol AND stored.ts = incoming.ts
  AND stored.interval <> incoming.interval

-- name: prefer_incoming
{column} = coalesce(incoming.{column}, stored.{column})
