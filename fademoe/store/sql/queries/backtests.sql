-- Runs of the backtester, and what came of them.

-- name: add
INSERT INTO perp_backtests (id, kind, state, title, plan) VALUES (%(id)s, %(kind)s, %(state)s, %(title)s, %(plan)s)

-- name: count_queued
SELECT count(*) FROM perp_backtests WHERE state = 'queued'

-- name: plan
SELECT kind, plan FROM perp_backtests WHERE id = %(id)s

-- name: begin
UPDATE perp_backtests SET state = 'running', plan = %(plan)s WHERE id = %(id)s AND state IN ('queued', 'running')

-- name: progress
-- No row: it was cancelled, or removed.
UPDATE perp_backtests SET progress = %(progress)s WHERE id = %(id)s AND state = 'running' RETURNING true

-- name: finish
UPDATE perp_backtests
SET state = 'done', ended_at = now(), progress = 1, certified = %(certified)s, certificate = %(certificate)s,
    report = %(report)s, unknown = %(unknown)s
WHERE id = %(id)s AND state = 'running'
RETURNING true

-- name: fail
UPDATE perp_backtests SET state = 'failed', ended_at = now(), message = %(message)s
WHERE id = %(id)s AND state IN ('queued', 'running')

-- name: cancel
UPDATE perp_backtests SET state = 'cancelled', ended_at = now()
WHERE id = %(id)s AND state IN ('queued', 'running')
RETURNING true

-- name: chunk_share
INSERT INTO perp_backtest_chunks AS c (run, data, chunk, share)
SELECT id, %(data)s, %(chunk)s, %(share)s FROM perp_backtests WHERE id = %(id)s AND state = 'running'
ON CONFLICT (run, data, chunk) DO UPDATE SET share = excluded.share WHERE c.trials IS NULL

-- name: chunks_progress
-- No row: it was cancelled, or removed.
UPDATE perp_backtests
SET progress = (SELECT sum(share) FROM perp_backtest_chunks WHERE run = %(id)s AND data = %(data)s) / %(chunks)s
WHERE id = %(id)s AND state = 'running'
RETURNING true

-- name: add_chunk
INSERT INTO perp_backtest_chunks AS c (run, data, chunk, share, trials)
SELECT id, %(data)s, %(chunk)s, 1, %(trials)s FROM perp_backtests WHERE id = %(id)s AND state = 'running'
ON CONFLICT (run, data, chunk) DO UPDATE SET share = 1, trials = excluded.trials WHERE c.trials IS NULL

-- name: chunks
SELECT chunk, trials FROM perp_backtest_chunks
WHERE run = %(id)s AND data = %(data)s AND trials IS NOT NULL
ORDER BY chunk

-- name: chunk_numbers
SELECT chunk FROM perp_backtest_chunks WHERE run = %(id)s AND data = %(data)s AND trials IS NOT NULL

-- name: forget_chunks
DELETE FROM perp_backtest_chunks AS c USING perp_backtests AS b
WHERE b.id = c.run AND b.state NOT IN ('queued', 'running')

-- name: going
SELECT id FROM perp_backtests WHERE state IN ('queued', 'running')

-- name: remove
DELETE FROM perp_backtests WHERE id = %(id)s RETURNING true

-- name: clear
DELETE FROM perp_backtest_ledger WHERE run = %(id)s;
DELETE FROM perp_backtest_equity WHERE run = %(id)s

-- name: runs
SELECT id, kind, state, title, plan, (extract(epoch FROM made_at) * 1000)::bigint,
       (extract(epoch FROM ended_at) * 1000)::bigint, progress, message, certified, certificate, report, unknown
FROM perp_backtests
WHERE %(id)s::text IS NULL OR id = %(id)s
ORDER BY made_at DESC, id
LIMIT %(limit)s

-- name: ledger
SELECT seq, ts, kind, symbol, trim_scale(quantity)::text AS quantity, trim_scale(price)::text AS price,
       trim_scale(fee)::text AS fee, trim_scale(amount)::text AS amount, trim_scale(cash)::text AS cash,
       trim_scale(position)::text AS position, reason
FROM perp_backtest_ledger
WHERE run = %(id)s AND seq > %(after)s
ORDER BY seq
LIMIT %(limit)s

-- name: equity
SELECT ts, trim_scale(equity)::text, trim_scale(cash)::text
FROM perp_backtest_equity
WHERE run = %(id)s AND ts > %(after)s
ORDER BY ts
LIMIT %(limit)s
