-- Lives of contracts and their dated terms.

-- name: lives
SELECT exchange, code, instrument, life, symbol, multiplier, contract_value, listed_ms, first_trade_ms, last_trade_ms,
       delisted_ms, successor, evidence
FROM perp_lives
WHERE coalesce(code = ANY(%(codes)s), true) AND coalesce(symbol = ANY(%(symbols)s), true)
  AND coalesce(coalesce(listed_ms, first_trade_ms, 0) < %(end)s, true)
  AND coalesce(coalesce(delisted_ms, %(start)s + 1) > %(start)s, true)
ORDER BY symbol, code, coalesce(listed_ms, 0), instrument, life

-- name: terms
SELECT coalesce(l.listed_ms, l.first_trade_ms), l.symbol, t.since_ms, t.instrument, t.life, t.multiplier, t.contract_value, t.tick, t.lot, t.min_notional,
       t.funding_hours, t.tier_unit, t.tiers
FROM perp_terms AS t JOIN perp_lives AS l USING (code, instrument, life)
WHERE t.code = %(code)s AND l.symbol = ANY(%(symbols)s)
ORDER BY l.symbol, t.since_ms, t.instrument
