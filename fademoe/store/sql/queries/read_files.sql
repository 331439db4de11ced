-- The ledger of archives, for pages, API and exports.

-- name: counts
SELECT exchange, dataset,
       (count(*) FILTER (WHERE state = 'ok'))::int, (count(*) FILTER (WHERE state = 'short'))::int,
       (count(*) FILTER (WHERE state = 'quarantined'))::int, (count(*) FILTER (WHERE state = 'absent'))::int,
       coalesce(sum(rows), 0)::bigint, coalesce(sum(bytes), 0)::bigint, min(start_ms), max(end_ms),
       (extract(epoch FROM max(fetched_at)) * 1000)::bigint
FROM perp_files
GROUP BY exchange, dataset
ORDER BY exchange, dataset

-- name: files
SELECT id, exchange, dataset, cadence, instrument, symbol, path, url, state, reason, start_ms, end_ms, rows, expected,
       clipped, differing, shift_ms, bytes, sha256, etag, terms, (extract(epoch FROM fetched_at) * 1000)::bigint
FROM perp_files
WHERE (%(exchange)s = '' OR exchange = %(exchange)s)
  AND (%(symbol)s = '' OR symbol = %(symbol)s)
  AND (%(state)s = '' OR state = %(state)s)
  AND id < %(before)s
ORDER BY id DESC
LIMIT %(limit)s

-- name: ways
-- By which ways the rows of each step of a window came; a row that several lines cover came with the latest of them.
SELECT a.symbol, step, array_agg(DISTINCT a.way ORDER BY a.way)
FROM perp_arrivals AS a,
     generate_series(%(start)s + (greatest(a.start_ms, %(start)s) - %(start)s) / %(step)s * %(step)s,
                     least(a.end_ms, %(end)s) - 1, %(step)s) AS step
WHERE a.source = %(source)s AND a.symbol = ANY(%(symbols)s::text[])
  AND a.start_ms < %(end)s AND a.end_ms > %(start)s AND a.start_ms > %(start)s - 2678400000
GROUP BY a.symbol, step

-- name: arrivals
SELECT a.start_ms, a.end_ms, a.way, a.known_to_ms, f.path, f.url, f.state
FROM perp_arrivals AS a LEFT JOIN perp_files AS f ON f.id = a.file_id
WHERE a.source = %(source)s AND a.symbol = %(symbol)s
  AND a.start_ms < %(end)s AND a.end_ms > %(start)s AND a.start_ms > %(start)s - 2678400000
ORDER BY a.start_ms, a.known_to_ms
LIMIT %(limit)s

-- name: terms
-- Under which terms the rows of some series in a range came; no symbols: all.
SELECT DISTINCT f.exchange, f.terms
FROM perp_arrivals AS a JOIN perp_files AS f ON f.id = a.file_id
WHERE a.source = ANY(%(sources)s::text[]) AND (%(symbols)s::text[] = '{}' OR a.symbol = ANY(%(symbols)s::text[]))
  AND a.start_ms < %(end)s AND a.end_ms > %(start)s AND a.start_ms > %(start)s - 2678400000
ORDER BY f.exchange, f.terms
