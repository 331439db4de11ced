-- Alert rules, states, transitions and the outbox.

-- name: lock_rules
-- One apply at a time, and none while a minute is evaluated.
SELECT pg_advisory_xact_lock(%(lock)s)

-- name: rules_in_force
SELECT id, file, first_minute, spec FROM perp_rules WHERE end_minute IS NULL ORDER BY name

-- name: was_applied
SELECT 1 FROM perp_rules WHERE file = %(file)s LIMIT 1

-- name: rules_of_minute
-- Rules that are in force in a minute, and those that end with it.
SELECT id, file, first_minute, end_minute, end_reason, spec
FROM perp_rules
WHERE first_minute <= %(minute)s AND (end_minute IS NULL OR end_minute >= %(minute)s)
ORDER BY name, id

-- name: rules_since
SELECT id, file, first_minute, end_minute, end_reason, spec
FROM perp_rules
WHERE name = %(name)s AND version = %(version)s
ORDER BY first_minute

-- name: begin_rule
INSERT INTO perp_rules (name, file, version, spec, first_minute)
VALUES (%(name)s, %(file)s, %(version)s, %(spec)s, %(minute)s)

-- name: end_rule
UPDATE perp_rules SET end_minute = greatest(first_minute, %(minute)s), end_reason = %(reason)s WHERE id = %(id)s

-- name: change_rule
UPDATE perp_rules SET spec = %(spec)s WHERE id = %(id)s

-- name: channels
SELECT name, file, url, secret, group_wait_ms, max_age_ms FROM perp_alert_channels
WHERE retired = %(retired)s
ORDER BY name

-- name: save_channel
INSERT INTO perp_alert_channels (name, file, url, secret, group_wait_ms, max_age_ms)
VALUES (%(name)s, %(file)s, %(url)s, %(secret)s, %(group_wait_ms)s, %(max_age_ms)s)
ON CONFLICT (name) DO UPDATE
SET file = excluded.file, url = excluded.url, secret = excluded.secret, group_wait_ms = excluded.group_wait_ms,
    max_age_ms = excluded.max_age_ms, retired = false

-- name: retire_channels
UPDATE perp_alert_channels SET retired = true WHERE file = %(file)s AND name <> ALL(%(kept)s)

-- name: drop_retired_channels
-- Those that are told of nothing any more: nothing waits, and what they were told of has ended.
DELETE FROM perp_alert_channels AS c
WHERE c.retired
  AND NOT EXISTS (SELECT FROM perp_deliveries AS d WHERE d.channel = c.name AND d.state = 'waiting')
  AND NOT EXISTS (
      SELECT
      FROM perp_alert_states AS s
      JOIN perp_rules AS r ON r.id = s.rule_id
      JOIN perp_transitions AS t
          ON (t.rule, t.version, t.code, t.symbol) = (r.name, r.version, s.code, s.symbol)
         AND (t.state = 'firing' AND s.state = 'firing' AND t.minute = s.since
              OR t.state = 'unknown' AND t.minute = s.unknown_since)
      JOIN perp_outbox AS o ON o.transition = t.id AND o.channel = c.name AND o.state = 'delivered')

-- name: silences
SELECT id, file, match, until_ms FROM perp_silences WHERE until_ms > %(after)s ORDER BY id

-- name: add_silence
INSERT INTO perp_silences (file, match, until_ms) VALUES (%(file)s, %(match)s, %(until_ms)s) RETURNING id

-- name: drop_silences
DELETE FROM perp_silences WHERE file = %(file)s

-- name: end_silence
UPDATE perp_silences SET until_ms = least(until_ms, %(now)s) WHERE id = %(id)s RETURNING id

-- name: read_cursor
SELECT minute FROM perp_alert_cursor

-- name: lock_cursor
SELECT minute FROM perp_alert_cursor FOR UPDATE

-- name: move_cursor
INSERT INTO perp_alert_cursor (minute) VALUES (%(minute)s)
ON CONFLICT (single) DO UPDATE SET minute = excluded.minute

-- name: record_minute
INSERT INTO perp_alert_minutes (minute, evaluated_ms, instances, took_ms, late)
VALUES (%(minute)s, %(evaluated_ms)s, %(instances)s, %(took_ms)s, %(late)s)
ON CONFLICT (minute) DO NOTHING

-- name: minutes
SELECT minute, evaluated_ms, instances, took_ms, late
FROM perp_alert_minutes
WHERE minute >= %(start)s AND minute < %(end)s
ORDER BY minute

-- name: newest_minute
SELECT minute, evaluated_ms, instances, took_ms, late FROM perp_alert_minutes ORDER BY minute DESC LIMIT 1

-- name: states
SELECT rule_id, code, symbol, state, since, counted, unknown, unknown_since FROM perp_alert_states

-- name: save_states
-- VALUES: (rule_id, code, symbol, state, since, counted, unknown, unknown_since)
INSERT INTO perp_alert_states (rule_id, code, symbol, state, since, counted, unknown, unknown_since) VALUES %s
ON CONFLICT (rule_id, code, symbol) DO UPDATE
SET state = excluded.state, since = excluded.since, counted = excluded.counted, unknown = excluded.unknown,
    unknown_since = excluded.unknown_since

-- name: drop_states
DELETE FROM perp_alert_states AS s
USING unnest(%(rules)s::bigint[], %(codes)s::text[], %(symbols)s::text[]) AS d (rule_id, code, symbol)
WHERE (s.rule_id, s.code, s.symbol) = (d.rule_id, d.code, d.symbol)

-- name: save_snapshots
-- VALUES: (rule_id, minute, states)
INSERT INTO perp_alert_snapshots (rule_id, minute, states) VALUES %s ON CONFLICT DO NOTHING

-- name: newest_snapshot
SELECT minute, states FROM perp_alert_snapshots
WHERE rule_id = %(rule)s AND minute <= %(minute)s
ORDER BY minute DESC LIMIT 1

-- name: add_transitions
-- VALUES: (id, rule, version, code, symbol, minute, state, since, reason, severity, message, values)
INSERT INTO perp_transitions
    (id, rule, version, code, symbol, minute, state, since, reason, severity, message, values) VALUES %s
ON CONFLICT (id) DO NOTHING

-- name: add_delivery
INSERT INTO perp_deliveries (channel, rule, minute, due_ms)
VALUES (%(channel)s, %(rule)s, %(minute)s, %(due_ms)s)
ON CONFLICT (channel, rule, minute) DO UPDATE SET due_ms = perp_deliveries.due_ms
RETURNING id

-- name: add_outbox
-- VALUES: (transition, channel, delivery, silenced)
INSERT INTO perp_outbox (transition, channel, delivery, silenced) VALUES %s ON CONFLICT DO NOTHING

-- name: channels_of_begin
SELECT transition, channel FROM perp_outbox WHERE transition = ANY(%(transitions)s) AND state = ANY(%(states)s)

-- name: lock_channel
-- One process at a time delivers to a channel; the lock ends with the session.
SELECT pg_try_advisory_lock(%(space)s, hashtext(%(channel)s))

-- name: unlock_channel
SELECT pg_advisory_unlock(%(space)s, hashtext(%(channel)s))

-- name: waiting_channels
-- `held`: until when the receiver is to be left alone, because it had too many messages; null where it had not.
SELECT d.channel, min(d.due_ms), max(d.due_ms) FILTER (WHERE a.status = %(too_many)s)
FROM perp_deliveries AS d
LEFT JOIN LATERAL (
    SELECT status FROM perp_attempts WHERE delivery = d.id AND d.attempts > 0 ORDER BY id DESC LIMIT 1
) AS a ON true
WHERE d.state = 'waiting' AND (%(channel)s::text IS NULL OR d.channel = %(channel)s)
GROUP BY d.channel ORDER BY d.channel

-- name: waiting_groups
-- The items of the oldest waiting groups of a channel. `began`: what became there of the transition that an item ends.
SELECT d.id, d.rule, d.minute, d.due_ms, d.attempts, o.transition, t.code, t.symbol, t.state, o.silenced,
       CASE WHEN t.state = 'resolved' OR t.state = 'known' THEN coalesce(
           (SELECT b.state
            FROM perp_transitions AS f JOIN perp_outbox AS b ON b.transition = f.id AND b.channel = d.channel
            WHERE f.rule = t.rule AND f.code = t.code AND f.symbol = t.symbol AND f.minute = t.since
              AND f.version = t.version
              AND f.state = CASE WHEN t.state = 'resolved' THEN 'firing' ELSE 'unknown' END
            LIMIT 1), 'unneeded') END
FROM (
    SELECT * FROM perp_deliveries
    WHERE channel = %(channel)s AND state = 'waiting'
    ORDER BY minute, id LIMIT %(limit)s
) AS d
JOIN perp_outbox AS o ON o.delivery = d.id
JOIN perp_transitions AS t ON t.id = o.transition
WHERE o.state = 'waiting'
ORDER BY d.minute, d.id, t.code, t.symbol, t.state, t.id

-- name: settle_items
UPDATE perp_outbox SET state = %(state)s
WHERE delivery = %(delivery)s AND state = 'waiting' AND transition = ANY(%(transitions)s)

-- name: settle_delivery
UPDATE perp_deliveries SET state = %(state)s, settled_ms = %(now)s WHERE id = %(id)s AND state = 'waiting'

-- name: close_delivery
-- The bytes and their id are stored before the first attempt and never change.
UPDATE perp_deliveries SET webhook_id = %(webhook_id)s, body = %(body)s
WHERE id = %(id)s AND webhook_id IS NULL

-- name: read_message
SELECT webhook_id, body FROM perp_deliveries WHERE id = %(id)s

-- name: begin_attempt
UPDATE perp_deliveries SET attempts = attempts + 1, due_ms = %(due_ms)s WHERE id = %(id)s RETURNING attempts

-- name: postpone
UPDATE perp_deliveries SET due_ms = %(due_ms)s WHERE id = %(id)s

-- name: record_attempt
INSERT INTO perp_attempts (delivery, number, at_ms, took_ms, status, error)
VALUES (%(delivery)s, %(number)s, %(at_ms)s, %(took_ms)s, %(status)s, %(error)s)

-- name: transitions_of_delivery
-- An end has the severity of its begin, because the labels name the alert.
SELECT t.id, t.rule, t.version, t.code, t.symbol, t.minute, t.state, t.since, t.reason,
       coalesce(b.severity, t.severity), t.message, t.values
FROM perp_outbox AS o
JOIN perp_transitions AS t ON t.id = o.transition
LEFT JOIN perp_transitions AS b
    ON b.rule = t.rule AND b.code = t.code AND b.symbol = t.symbol AND b.minute = t.since AND b.version = t.version
   AND b.state = CASE t.state WHEN 'resolved' THEN 'firing' WHEN 'known' THEN 'unknown' END
WHERE o.delivery = %(delivery)s AND o.state = 'waiting'
ORDER BY t.code, t.symbol, t.state = 'firing', t.id

-- name: settle_orphans
-- Groups of a channel that is not there any more, or is retired and was not reached for the group's greatest age.
WITH orphans AS (
    UPDATE perp_deliveries AS d SET state = 'unneeded', settled_ms = %(now)s
    WHERE state = 'waiting' AND NOT EXISTS (
        SELECT FROM perp_alert_channels AS c
        WHERE c.name = d.channel AND (NOT c.retired OR d.minute + c.max_age_ms >= %(now)s))
    RETURNING id
)
UPDATE perp_outbox AS o SET state = 'unneeded' FROM orphans WHERE o.delivery = orphans.id AND o.state = 'waiting'

-- name: first_covered
SELECT min(lower(covered)) FROM perp_ranges
WHERE source = ANY(%(sources)s) AND symbol = %(symbol)s AND NOT isempty(covered)

-- name: closes
SELECT p.source, p.symbol, p.ts, p.c::text
FROM unnest(%(sources)s::text[], %(symbols)s::text[], %(times)s::bigint[]) AS n (source, symbol, ts)
JOIN perp_data AS p ON p.source = n.source AND p.symbol = n.symbol AND p.ts = n.ts
WHERE p.c IS NOT NULL

-- name: transitions
SELECT t.id, t.rule, t.version, t.code, t.symbol, t.minute, t.state, t.since, t.reason, t.severity, t.message, t.values,
       (extract(epoch FROM t.at) * 1000)::bigint
FROM perp_transitions AS t
WHERE t.minute >= %(start)s AND t.minute < %(end)s
  AND (%(rule)s = '' OR t.rule = %(rule)s) AND (%(code)s = '' OR t.code = %(code)s)
  AND (%(symbol)s = '' OR t.symbol IN (%(symbol)s, upper(%(symbol)s)))
  AND (%(before_minute)s::bigint IS NULL OR (t.minute, t.id) < (%(before_minute)s, %(before_id)s))
ORDER BY t.minute DESC, t.id DESC
LIMIT %(limit)s

-- name: deliveries_of
SELECT o.transition, o.channel, o.state, d.attempts, d.due_ms,
       (SELECT a.error FROM perp_attempts AS a WHERE a.delivery = d.id ORDER BY a.id DESC LIMIT 1),
       (SELECT a.at_ms FROM perp_attempts AS a WHERE a.delivery = d.id ORDER BY a.id DESC LIMIT 1)
FROM perp_outbox AS o JOIN perp_deliveries AS d ON d.id = o.delivery
WHERE o.transition = ANY(%(transitions)s)
ORDER BY o.transition, o.channel

-- name: last_transitions
-- The newest transition of each instance, of one rule or of all.
SELECT DISTINCT ON (rule, code, symbol)
       id, rule, version, code, symbol, minute, state, since, reason, severity, message, values,
       (extract(epoch FROM at) * 1000)::bigint
FROM perp_transitions
WHERE minute >= %(since)s
ORDER BY rule, code, symbol, minute DESC, at DESC

-- name: forget_attempts
DELETE FROM perp_attempts WHERE at_ms < %(before)s

-- name: forget_snapshots
DELETE FROM perp_alert_snapshots WHERE minute < %(before)s
