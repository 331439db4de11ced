-- Rows of derived perpspecs, in the place of perp_data: (ts, symbol, source, interval, columns).

-- name: stored
perp_data

-- name: of_code
(
    SELECT d.ts, d.symbol, {source}::text AS source, d.interval, {columns}{extras}
    FROM {stored} AS d {earlier}
    WHERE d.source = {input}
)

-- name: own_extras
, d.known_ms, d.is_measured, d.restored

-- name: earlier_extras
, greatest(d.known_ms, p.known_ms) AS known_ms,
CASE WHEN p.ts IS NULL THEN d.is_measured ELSE d.is_measured AND p.is_measured END AS is_measured,
d.restored + coalesce(p.restored, 0) AS restored

-- name: joined_extras
-- A row whose times were not recorded makes the result one of those.
, max(d.known_ms) AS known_ms,
CASE WHEN count(d.is_measured) = count(*) THEN bool_and(d.is_measured) END AS is_measured,
sum(d.restored)::int AS restored

-- name: names_of_extras
, g.known_ms, g.is_measured, g.restored

-- name: lagged
JOIN {stored} AS p ON p.source = d.source AND p.symbol = d.symbol AND p.ts = d.ts - {lag}

-- name: previous
LEFT JOIN LATERAL (
    SELECT * FROM {stored} AS e
    WHERE e.source = d.source AND e.symbol = d.symbol AND e.ts < d.ts
    ORDER BY e.ts DESC LIMIT 1
) AS p ON true

-- name: across
-- Of each symbol and time the rows of all exchanges that list the coin then, where there are as many as exchanges. The
-- interval is that of the row known last.
(
    SELECT g.ts, l.symbol, {source}::text AS source, g.interval, {names}, {sources} AS sources{names_of_extras}
    FROM (
        SELECT symbol, array_agg(code ORDER BY code COLLATE "C") AS codes,
               array_agg(code || {input} ORDER BY code COLLATE "C") AS inputs, range_intersect_agg(alive) AS always,
               array_agg(alive ORDER BY code COLLATE "C") AS alives,
               array_agg(present ORDER BY code COLLATE "C") AS presents
        FROM perp_parts
        WHERE source = {source}
        GROUP BY symbol
    ) AS l
    CROSS JOIN LATERAL (
        SELECT d.ts, {interval} AS interval, {columns}{extras}, count(*) AS rows,
               string_agg(d.code, ',' ORDER BY d.code COLLATE "C") AS codes
        FROM (
            SELECT r.ts, c.code, r.interval, {inputs}
            FROM unnest(l.codes, l.inputs, l.alives) AS c(code, input, alive)
            JOIN {stored} AS r ON r.source = c.input AND r.symbol = l.symbol AND c.alive @> r.ts
            {further}
        ) AS d
        GROUP BY d.ts
    ) AS g
    WHERE {whole}
)

-- name: last_known
-- One that no feed writes counts as known last, as it does in expressions.
coalesce(({intervals})[max(coalesce(array_position({intervals}, d.interval), cardinality({intervals})))], max(d.interval))

-- name: further
JOIN {stored} AS {alias} ON {alias}.source = c.code || {input} AND {alias}.symbol = l.symbol AND {alias}.ts = r.ts

-- name: codes_with_rows
g.codes

-- name: all_have_rows
g.rows = CASE WHEN l.always @> g.ts THEN cardinality(l.codes)
              ELSE (SELECT count(*) FROM unnest(l.alives) AS a(alive) WHERE a.alive @> g.ts) END

-- name: codes_that_list
(SELECT string_agg(a.code, ',') FROM unnest(l.codes, l.alives) AS a(code, alive) WHERE a.alive @> g.ts)

-- name: all_are_covered
NOT EXISTS (
    SELECT FROM unnest(l.alives, l.presents) AS a(alive, present) WHERE a.alive @> g.ts AND NOT a.present @> g.ts
)

-- name: known_by
-- A row of one exchange that came later leaves no sum, where none would count as zero.
 AND g.known_ms <= {at_ms}

-- name: register_part
INSERT INTO perp_derived (source, code, inputs, is_across, lag_ms)
VALUES (%(source)s, %(code)s, %(inputs)s, %(is_across)s, %(lag)s)
ON CONFLICT (source, code) DO UPDATE
SET inputs = excluded.inputs, is_across = excluded.is_across, lag_ms = excluded.lag_ms
WHERE (perp_derived.inputs, perp_derived.is_across, perp_derived.lag_ms)
    IS DISTINCT FROM (excluded.inputs, excluded.is_across, excluded.lag_ms)

-- name: follow
UPDATE perp_derived SET is_followed = (code = ANY(%(codes)s))
WHERE is_across AND is_followed <> (code = ANY(%(codes)s))
