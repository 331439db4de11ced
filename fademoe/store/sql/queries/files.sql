-- The files of archives (perp_files), and for which ranges they were asked (perp_files_asked).

-- name: save
-- VALUES: see save_row
INSERT INTO perp_files AS stored
    (exchange, path, url, dataset, cadence, instrument, symbol, start_ms, end_ms, state, reason, etag, last_modified,
     bytes, sha256, checksum_ok, terms, rows, expected, first_ts, last_ts, shift_ms, clipped, differing, details)
VALUES %s
ON CONFLICT (exchange, path, instrument) DO UPDATE
SET url = excluded.url, symbol = excluded.symbol, state = excluded.state, reason = excluded.reason,
    etag = excluded.etag, last_modified = excluded.last_modified, bytes = excluded.bytes, sha256 = excluded.sha256,
    checksum_ok = excluded.checksum_ok, terms = excluded.terms, rows = excluded.rows, expected = excluded.expected,
    first_ts = excluded.first_ts, last_ts = excluded.last_ts, shift_ms = excluded.shift_ms,
    clipped = excluded.clipped, differing = excluded.differing, details = excluded.details,
    fetched_at = now(), checked_at = now()
RETURNING path, id

-- name: save_row
(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb)

-- name: contracts
SELECT DISTINCT dataset, instrument FROM perp_files WHERE exchange = %(exchange)s ORDER BY dataset, instrument

-- name: find
SELECT id, exchange, path, url, dataset, cadence, instrument, symbol, start_ms, end_ms, state, reason, etag,
       last_modified, bytes, sha256, checksum_ok, terms, rows, expected, first_ts, last_ts, shift_ms, clipped, differing,
       details, extract(epoch FROM fetched_at)::float8
FROM perp_files
WHERE exchange = %(exchange)s
  AND (%(paths)s::text[] IS NULL OR path = ANY(%(paths)s::text[]))
  AND (%(dataset)s::text IS NULL OR dataset = %(dataset)s)
  AND (%(instrument)s::text IS NULL OR instrument = %(instrument)s)
ORDER BY path

-- name: asked
SELECT instrument, lower(r), upper(r)
FROM perp_files_asked, unnest(asked) AS r
WHERE exchange = %(exchange)s AND metric = %(metric)s
ORDER BY instrument, r

-- name: add_asked
INSERT INTO perp_files_asked AS p (exchange, metric, instrument, asked)
VALUES (%(exchange)s, %(metric)s, %(instrument)s, %(asked)s::int8multirange)
ON CONFLICT (exchange, metric, instrument) DO UPDATE SET asked = p.asked + excluded.asked, updated_at = now()

-- name: remove_asked
UPDATE perp_files_asked SET asked = asked - %(asked)s::int8multirange, updated_at = now()
WHERE exchange = %(exchange)s AND metric = ANY(%(metrics)s) AND instrument = %(instrument)s

-- name: forget_before
UPDATE perp_files_asked SET asked = asked - forgotten, updated_at = now()
FROM (SELECT int8multirange(int8range(NULL, %(kept_from)s)) AS forgotten) AS edge
WHERE asked && forgotten

-- name: note_checked
UPDATE perp_files SET checked_at = now()
WHERE exchange = %(exchange)s AND dataset = %(dataset)s AND instrument = %(instrument)s

-- name: closes
SELECT ts, c::float8
FROM perp_data
WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s AND c IS NOT NULL

-- name: last_before
SELECT max(ts) FROM perp_data WHERE source = %(source)s AND symbol = %(symbol)s AND ts < %(ts)s AND ts >= %(from)s

-- name: counts
SELECT exchange, dataset, state, count(*), sum(rows)::bigint, sum(bytes)::bigint, min(start_ms), max(end_ms)
FROM perp_files
GROUP BY exchange, dataset, state
ORDER BY exchange, dataset, state

-- name: in_state
SELECT exchange, path, symbol, dataset, state, reason, start_ms, end_ms, rows, expected
FROM perp_files
WHERE state = ANY(%(states)s::text[])
ORDER BY exchange, dataset, symbol, start_ms
LIMIT %(limit)s

-- name: unlisted
SELECT l.instrument, l.life
FROM perp_lives AS l
WHERE l.code = %(code)s
  AND (l.evidence <> 'list' OR EXISTS (
      SELECT FROM perp_lives AS n WHERE n.code = l.code AND n.instrument = l.instrument AND n.life > l.life)
    -- It ended as announced, and the lists of a day have lacked it since.
    OR (l.delisted_ms <= extract(epoch FROM now()) * 1000 AND l.seen_at < (
      SELECT max(seen_at) FROM perp_lives WHERE code = %(code)s AND evidence = 'list') - interval '1 day'))
