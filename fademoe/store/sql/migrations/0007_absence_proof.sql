-- How sure an absence is: how many runs, at least ten minutes apart, asked for the range and got nothing.
-- Absences from before are provisional: they are requested again.
ALTER TABLE perp_absence ADD COLUMN checks INTEGER NOT NULL DEFAULT 1;
ALTER TABLE perp_absence ADD COLUMN first_checked_at TIMESTAMPTZ NOT NULL DEFAULT now();
ALTER TABLE perp_absence ADD COLUMN checked_by TEXT NOT NULL DEFAULT '';
UPDATE perp_absence SET first_checked_at = checked_at;
CREATE INDEX perp_absence_due ON perp_absence (reason, checks, checked_at);
-- A series that was wanted without an end when its contract was delisted: a new listing makes it so again.
ALTER TABLE perp_coverage ADD COLUMN resumes_with_listing BOOLEAN NOT NULL DEFAULT false;
