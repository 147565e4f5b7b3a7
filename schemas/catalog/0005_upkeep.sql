-- Version 5: the latest verification and collection of a storage, found without looking at its backups.

CREATE INDEX runs_of_upkeep ON runs (storage_id, kind, sequence) WHERE kind IN ('verify', 'collect');
