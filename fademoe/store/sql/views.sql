-- Views over all series, stored and derived. They are recreated when this text changes or a migration is applied.

-- What a derived perpspec takes of one exchange code, by symbol. `alive`: when the exchange listed the coin; always where
-- its list does not have it, and for a perpspec of one exchange alone. The others are the intersection of the inputs.
CREATE VIEW perp_parts AS
SELECT s.source, s.symbol, d.code, d.lag_ms, i.known,
       CASE WHEN d.is_across THEN coalesce(m.alive, '{(,)}') ELSE '{(,)}' END AS alive,
       i.wanted, i.covered, i.present
FROM (
    SELECT d.source, p.symbol FROM perp_derived AS d JOIN perp_coverage AS p ON p.source = ANY (d.inputs)
    WHERE d.is_followed
    UNION
    SELECT d.source, m.symbol FROM perp_derived AS d JOIN perp_lives AS m ON m.code = d.code
    WHERE d.is_followed AND d.is_across
) AS s
JOIN perp_derived AS d ON d.source = s.source AND d.is_followed
LEFT JOIN LATERAL (
    SELECT range_agg(int8range(m.listed_ms, m.delisted_ms)) AS alive
    FROM perp_lives AS m
    WHERE m.code = d.code AND m.symbol = s.symbol AND coalesce(m.listed_ms < m.delisted_ms, true)
) AS m ON true
CROSS JOIN LATERAL (
    SELECT count(p.source) AS known, range_intersect_agg(coalesce(p.wanted, '{}')) AS wanted,
           range_intersect_agg(coalesce(p.covered, '{}')) AS covered,
           range_intersect_agg(coalesce(p.covered - p.absent, '{}')) AS present
    FROM unnest(d.inputs) AS input LEFT JOIN perp_coverage AS p ON p.source = input AND p.symbol = s.symbol
) AS i
WHERE i.known > 0 OR d.is_across AND m.alive IS NOT NULL;

-- What is wanted, covered and absent of every series. Of a derived one it is the intersection over its parts, each
-- while its exchange lists the coin; a row that needs an earlier one needs that covered as well, and is wanted where
-- both are.
CREATE VIEW perp_ranges AS
SELECT source, symbol, wanted, covered, absent, wanted_from FROM perp_coverage
UNION ALL
SELECT source, symbol, wanted, covered, covered - present AS absent, lower(wanted) AS wanted_from
FROM (
    SELECT source, symbol,
           CASE WHEN lag_ms = 0 THEN wanted ELSE wanted * coalesce((
               SELECT range_agg(int8range(lower(r) + lag_ms, upper(r) + lag_ms)) FROM unnest(wanted) AS r), '{}')
           END AS wanted,
           CASE WHEN lag_ms = 0 THEN covered ELSE covered * coalesce((
               SELECT range_agg(int8range(lower(r) + lag_ms, upper(r) + lag_ms)) FROM unnest(covered) AS r), '{}')
           END AS covered,
           CASE WHEN lag_ms = 0 THEN present ELSE present * coalesce((
               SELECT range_agg(int8range(lower(r) + lag_ms, upper(r) + lag_ms)) FROM unnest(present) AS r), '{}')
           END AS present
    FROM (
        SELECT source, symbol, lag_ms,
               range_intersect_agg(wanted + dead) * ('{(,)}' - range_intersect_agg('{(,)}' - wanted)) AS wanted,
               range_intersect_agg(covered + dead) * ('{(,)}' - range_intersect_agg('{(,)}' - covered)) AS covered,
               range_intersect_agg(present + dead) * ('{(,)}' - range_intersect_agg('{(,)}' - present)) AS present
        FROM (
            SELECT source, symbol, lag_ms, known, '{(,)}'::int8multirange - alive AS dead, wanted, covered, present
            FROM perp_parts
        ) AS p
        GROUP BY source, symbol, lag_ms
        HAVING max(known) > 0
    ) AS i
) AS l;

-- Why ranges of every series are absent; a derived one names the input.
CREATE VIEW perp_reasons AS
SELECT source, symbol, start_ms, end_ms, reason, checked_at, first_checked_at, checks, checked_by FROM perp_absence
UNION ALL
SELECT d.source, a.symbol, a.start_ms, a.end_ms + d.lag_ms, a.source || ': ' || a.reason, a.checked_at,
       a.first_checked_at, a.checks, a.checked_by
FROM perp_derived AS d JOIN perp_absence AS a ON a.source = ANY (d.inputs)
WHERE d.is_followed
