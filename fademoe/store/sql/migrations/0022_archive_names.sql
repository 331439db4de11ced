-- An archive may have the files of a life under another name than the contract's, such as LITUSDTSETTLED.
ALTER TABLE perp_lives ADD COLUMN archive_name TEXT;  -- null: not known
