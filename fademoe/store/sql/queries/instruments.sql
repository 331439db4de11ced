-- The lives and terms of the exchanges' contracts.

-- name: save
-- VALUES: (exchange, code, instrument, symbol, multiplier, contract_value, listed_ms, delisted_ms, life)
INSERT INTO perp_lives
    (exchange, code, instrument, symbol, multiplier, contract_value, listed_ms, delisted_ms, life) VALUES %s
ON CONFLICT (code, instrument, life) DO UPDATE
SET symbol = excluded.symbol, multiplier = excluded.multiplier, contract_value = excluded.contract_value,
    listed_ms = excluded.listed_ms, delisted_ms = excluded.delisted_ms, missing_ms = NULL, seen_at = now(),
    evidence = 'list'

-- name: note_successors
UPDATE perp_lives AS l SET successor = n.symbol
FROM perp_lives AS n
WHERE n.code = l.code AND n.instrument = l.instrument AND n.life = l.life + 1 AND l.code = ANY(%(codes)s)
  AND n.symbol <> l.symbol AND l.successor IS DISTINCT FROM n.symbol

-- name: save_terms
-- VALUES: (code, instrument, life, at_ms, multiplier, contract_value, tick, lot, min_notional, funding_hours, tier_unit,
-- tiers, evidence); what is null is as before. A row is added only where something has changed.
INSERT INTO perp_terms
    (code, instrument, life, since_ms, multiplier, contract_value, tick, lot, min_notional, funding_hours, tier_unit, tiers,
     evidence)
SELECT g.code, g.instrument, g.life, g.at_ms, g.multiplier, g.contract_value, coalesce(g.tick, t.tick),
       coalesce(g.lot, t.lot), coalesce(g.min_notional, t.min_notional), coalesce(g.funding_hours, t.funding_hours),
       coalesce(g.tier_unit, t.tier_unit), coalesce(g.tiers, t.tiers), g.evidence
FROM (VALUES %s) AS g (code, instrument, life, at_ms, multiplier, contract_value, tick, lot, min_notional, funding_hours,
                       tier_unit, tiers, evidence)
LEFT JOIN LATERAL (
    SELECT * FROM perp_terms AS p
    WHERE p.code = g.code AND p.instrument = g.instrument AND p.life = g.life
    ORDER BY p.since_ms DESC LIMIT 1) AS t ON true
WHERE t.code IS NULL
   OR (t.multiplier, t.contract_value, t.tick, t.lot, t.min_notional, t.funding_hours, t.tier_unit, t.tiers)
      IS DISTINCT FROM
      (g.multiplier, g.contract_value, coalesce(g.tick, t.tick), coalesce(g.lot, t.lot),
       coalesce(g.min_notional, t.min_notional), coalesce(g.funding_hours, t.funding_hours),
       coalesce(g.tier_unit, t.tier_unit), coalesce(g.tiers, t.tiers))
ON CONFLICT (code, instrument, since_ms) DO UPDATE
SET life = excluded.life, multiplier = excluded.multiplier, contract_value = excluded.contract_value, tick = excluded.tick,
    lot = excluded.lot, min_notional = excluded.min_notional, funding_hours = excluded.funding_hours,
    tier_unit = excluded.tier_unit, tiers = excluded.tiers, seen_at = now()

-- name: funding_hours
SELECT DISTINCT ON (code, instrument) code, instrument, funding_hours
FROM perp_terms
WHERE code = ANY(%(codes)s) AND funding_hours IS NOT NULL
ORDER BY code, instrument, life DESC, since_ms DESC

-- name: retire_missing
UPDATE perp_metadata SET delisted_ms = missing_ms, missing_ms = NULL, evidence = 'missing'
WHERE (code, instrument) IN (SELECT unnest(%(codes)s::text[]), unnest(%(names)s::text[]))
  AND missing_ms <= %(before)s
RETURNING instrument

-- name: undated
-- Nobody has said when these lives ended: the lists lack them, or no list has come for a day. With the last list's time.
SELECT instrument, life, (extract(epoch FROM seen_at) * 1000)::bigint
FROM perp_lives
WHERE code = ANY(%(codes)s)
  AND (evidence = 'missing'
    OR coalesce(delisted_ms > extract(epoch FROM now()) * 1000, true)
       AND (missing_ms IS NOT NULL OR evidence = 'list' AND seen_at < now() - interval '1 day'))

-- name: date_end
UPDATE perp_lives
SET delisted_ms = %(delisted_ms)s, last_trade_ms = %(last_trade_ms)s, evidence = 'archive',
    archive_name = coalesce(archive_name, %(archive_name)s)
WHERE code = %(code)s AND instrument = %(name)s AND life = %(life)s AND evidence = 'missing'

-- name: note_missing
UPDATE perp_metadata SET missing_ms = %(now)s
WHERE (code, instrument) IN (SELECT unnest(%(codes)s::text[]), unnest(%(names)s::text[]))
  AND missing_ms IS NULL AND coalesce(delisted_ms > %(now)s, true)

-- name: count_missing
SELECT count(*) FROM perp_metadata
WHERE code = ANY(%(codes)s) AND missing_ms IS NOT NULL
  AND coalesce(delisted_ms > extract(epoch FROM now()) * 1000, true)

-- name: lives
SELECT exchange, code, instrument, symbol, multiplier, contract_value::text, listed_ms, delisted_ms, life
FROM perp_lives
WHERE code = ANY(%(codes)s)
ORDER BY life

-- name: by_symbol
SELECT DISTINCT ON (symbol)
       exchange, code, instrument, symbol, multiplier, contract_value::text, listed_ms, delisted_ms, life
FROM perp_lives
WHERE code = %(code)s AND coalesce(symbol = %(symbol)s, true)
ORDER BY symbol, coalesce(listed_ms, 0) > extract(epoch FROM now()) * 1000,
         delisted_ms DESC NULLS FIRST, listed_ms DESC NULLS LAST, instrument

-- name: last_close
SELECT c FROM perp_data
WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s AND c IS NOT NULL
ORDER BY ts DESC
LIMIT 1

-- name: symbols_of
SELECT DISTINCT symbol FROM perp_coverage WHERE source = ANY(%(sources)s)

-- name: lives_of
SELECT exchange, code, instrument, symbol, multiplier, contract_value::text, listed_ms, delisted_ms, life
FROM perp_lives
WHERE code = %(code)s AND instrument = %(name)s
ORDER BY life

-- name: count_on
-- A life was found before some that are stored: their numbers go up. The order makes all of them be deleted first.
WITH counted AS (
    DELETE FROM perp_lives WHERE code = %(code)s AND instrument = %(name)s AND life >= %(life)s RETURNING *)
INSERT INTO perp_lives (exchange, code, instrument, symbol, multiplier, contract_value, listed_ms, delisted_ms, seen_at,
                        missing_ms, life, first_trade_ms, last_trade_ms, successor, evidence, archive_name)
SELECT exchange, code, instrument, symbol, multiplier, contract_value, listed_ms, delisted_ms, seen_at, missing_ms,
       life + 1, first_trade_ms, last_trade_ms, successor, evidence, archive_name
FROM counted
ORDER BY life

-- name: count_terms_on
UPDATE perp_terms SET life = life + 1 WHERE code = %(code)s AND instrument = %(name)s AND life >= %(life)s

-- name: add_found
-- VALUES: (exchange, code, instrument, symbol, multiplier, contract_value, listed_ms, first_trade_ms, last_trade_ms,
-- delisted_ms, life, archive_name, evidence)
INSERT INTO perp_lives (exchange, code, instrument, symbol, multiplier, contract_value, listed_ms, first_trade_ms,
                        last_trade_ms, delisted_ms, life, archive_name, evidence)
VALUES %s
ON CONFLICT (code, instrument, life) DO NOTHING

-- name: archive_names
SELECT instrument, life, archive_name FROM perp_lives WHERE code = ANY(%(codes)s) AND archive_name IS NOT NULL

-- name: set_archive_name
UPDATE perp_lives SET archive_name = %(archive_name)s
WHERE code = %(code)s AND instrument = %(name)s AND life = %(life)s AND archive_name IS NULL
