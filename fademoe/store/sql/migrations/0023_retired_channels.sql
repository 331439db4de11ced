-- A channel that its file no longer has: it is told of the end of what it was told of, and then deleted.
ALTER TABLE perp_alert_channels ADD COLUMN retired BOOLEAN NOT NULL DEFAULT false;
