-- An error that repeats is counted in the row of the first one: how many there were, when the last one came, and which
-- other units had it.
ALTER TABLE perp_errors ADD COLUMN count INTEGER NOT NULL DEFAULT 1;
ALTER TABLE perp_errors ADD COLUMN last_at TIMESTAMPTZ;
ALTER TABLE perp_errors ADD COLUMN other_units TEXT[] NOT NULL DEFAULT '{}';
