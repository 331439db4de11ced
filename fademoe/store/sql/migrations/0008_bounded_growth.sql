-- What maintenance deletes by age has an index. Until now every run of routine work left two lines in the history: those
-- of a backfill, an audit or a poll that only went on are removed.
DO $$
DECLARE
    removed BIGINT;
BEGIN
    WITH lines AS (
        SELECT id, state, lag(state) OVER (PARTITION BY unit ORDER BY id) AS before FROM perp_status_history
    )
    DELETE FROM perp_status_history AS h USING lines
        WHERE h.id = lines.id AND lines.state IN ('running', 'done') AND lines.before IN ('running', 'done')
            AND h.unit NOT LIKE 'web %';
    GET DIAGNOSTICS removed = ROW_COUNT;
    IF removed > 0 THEN
        RAISE NOTICE 'history of states: % lines of routine work removed', removed;
    END IF;
END $$;
CREATE INDEX perp_status_history_at ON perp_status_history (at);
CREATE INDEX perp_corrections_at ON perp_corrections (at);
CREATE INDEX perp_absence_end ON perp_absence (end_ms);
