-- Since when the exchange's list lacks a contract that is not delisted: null while it is on the list.
ALTER TABLE perp_metadata ADD COLUMN missing_ms BIGINT;
