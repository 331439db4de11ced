-- The exchanges' contracts, perp_metadata.

-- name: save
-- VALUES: (exchange, code, instrument, symbol, multiplier, contract_value, listed_ms, delisted_ms)
INSERT INTO perp_metadata
    (exchange, code, instrument, symbol, multiplier, contract_value, listed_ms, delisted_ms) VALUES %s
ON CONFLICT (code, instrument) DO UPDATE
SET symbol = excluded.symbol, multiplier = excluded.multiplier, contract_value = excluded.contract_value,
    listed_ms = excluded.listed_ms, delisted_ms = excluded.delisted_ms, missing_ms = NULL, seen_at = now()

-- name: retire_missing
UPDATE perp_metadata SET delisted_ms = missing_ms, missing_ms = NULL
WHERE (code, instrument) IN (SELECT unnest(%(codes)s::text[]), unnest(%(names)s::text[]))
  AND missing_ms <= %(before)s
RETURNING instrument

-- name: note_missing
UPDATE perp_metadata SET missing_ms = %(now)s
WHERE (code, instrument) IN (SELECT unnest(%(codes)s::text[]), unnest(%(names)s::text[]))
  AND missing_ms IS NULL AND coalesce(delisted_ms > %(now)s, true)

-- name: count_missing
SELECT count(*) FROM perp_metadata WHERE code = ANY(%(codes)s) AND missing_ms IS NOT NULL

-- name: by_key
SELECT exchange, code, instrument, symbol, multiplier, contract_value::text, listed_ms, delisted_ms
FROM perp_metadata
WHERE code = ANY(%(codes)s)

-- name: by_symbol
SELECT DISTINCT ON (symbol)
       exchange, code, instrument, symbol, multiplier, contract_value::text, listed_ms, delisted_ms
FROM perp_metadata
WHERE code = %(code)s AND coalesce(symbol = %(symbol)s, true)
ORDER BY symbol, coalesce(listed_ms, 0) > extract(epoch FROM now()) * 1000,
         delisted_ms DESC NULLS FIRST, listed_ms DESC NULLS LAST, instrument
