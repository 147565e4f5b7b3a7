-- Version 4: what keeps points from being removed, as their storages say.
ALTER TABLE points ADD COLUMN
    locked_until_ms INTEGER;            -- cannot be removed before, by the storage's time; NULL: no lock
ALTER TABLE points ADD COLUMN
    is_held INTEGER NOT NULL DEFAULT 0; -- 1: under legal hold, cannot be removed until it is released
