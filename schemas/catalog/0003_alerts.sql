-- Version 3: alerts, and the channels that carry them to people.

-- Something somebody must look at: a condition that the server found to hold. One row for each time a condition began.
CREATE TABLE alerts (
    alert_id           TEXT PRIMARY KEY,                     -- id
    sequence           INTEGER NOT NULL UNIQUE,              -- counts alerts; newest first is this, downwards
    tenant_id          TEXT NOT NULL REFERENCES tenants,     -- house it belongs to
    kind               TEXT NOT NULL,                        -- schemas.api.AlertKind
    subject_key        TEXT NOT NULL,                        -- what it is about, by ids; with `kind` it names the condition
    subject            TEXT NOT NULL,                        -- the same for people, as it was called then
    occurrence         TEXT NOT NULL,                        -- run that showed it last; empty for a lasting state
    level              TEXT NOT NULL,                        -- schemas.api.AlertLevel, the highest it reached
    state              TEXT NOT NULL,                        -- open, acknowledged or closed
    text               TEXT NOT NULL,                        -- what happened and what to do
    job_id             TEXT,                                 -- the job it is about; NULL: none
    host_id            TEXT,                                 -- the host
    storage_id         TEXT,                                 -- the storage
    node_id            TEXT,                                 -- the node
    count              INTEGER NOT NULL DEFAULT 1,           -- how often it showed
    opened_at_ms       INTEGER NOT NULL,                     -- first seen
    last_at_ms         INTEGER NOT NULL,                     -- last shown anew
    acknowledged_by    TEXT NOT NULL DEFAULT '',             -- user name
    acknowledged_at_ms INTEGER,                              -- NULL: nobody did
    closed_by          TEXT NOT NULL DEFAULT '',             -- user name, or `system` when the condition ended
    closed_at_ms       INTEGER,                              -- NULL: not closed
    is_muted           INTEGER NOT NULL DEFAULT 0            -- 1: closed by hand while the condition still held
) STRICT;
CREATE UNIQUE INDEX alerts_live ON alerts (kind, subject_key) WHERE state <> 'closed' OR is_muted = 1;
CREATE INDEX alerts_by_state ON alerts (state, sequence);
CREATE INDEX alerts_by_opened ON alerts (opened_at_ms);

-- Ways to reach people.
CREATE TABLE channels (
    channel_id    TEXT PRIMARY KEY,                       -- id
    tenant_id     TEXT NOT NULL REFERENCES tenants,       -- house it belongs to
    name          TEXT NOT NULL UNIQUE COLLATE NOCASE,    -- shown to people
    settings      BLOB NOT NULL,                          -- schemas.api.ChannelSettings as JSON, sealed by the vault
    least_level   TEXT NOT NULL,                          -- alerts below it are not sent
    is_enabled    INTEGER NOT NULL DEFAULT 1,             -- 0: nothing is sent
    created_at_ms INTEGER NOT NULL                        -- when it was made
) STRICT;

-- Messages about alerts on their way through a channel.
CREATE TABLE deliveries (
    delivery_id   INTEGER PRIMARY KEY,                                      -- counts messages
    alert_id      TEXT NOT NULL REFERENCES alerts ON DELETE CASCADE,        -- what it tells of
    channel_id    TEXT NOT NULL REFERENCES channels ON DELETE CASCADE,      -- the way it goes
    event         TEXT NOT NULL,                                            -- opened, escalated or closed
    state         TEXT NOT NULL DEFAULT 'waiting',                          -- schemas.api.DeliveryState
    attempts      INTEGER NOT NULL DEFAULT 0,                               -- tries so far
    not_before_ms INTEGER NOT NULL,                                         -- next try
    error         TEXT NOT NULL DEFAULT '',                                 -- of the latest try
    created_at_ms INTEGER NOT NULL,                                         -- when it was put in the queue
    ended_at_ms   INTEGER                                                   -- sent or given up; NULL: waiting
) STRICT;
CREATE INDEX deliveries_waiting ON deliveries (not_before_ms) WHERE state = 'waiting';
CREATE INDEX deliveries_by_channel ON deliveries (channel_id, delivery_id);
CREATE INDEX deliveries_by_alert ON deliveries (alert_id, delivery_id);

-- What the conditions are found by.
CREATE INDEX runs_by_job_and_host ON runs (job_id, host_id, sequence);
CREATE INDEX points_bad ON points (storage_id, object_name) WHERE verified_ok = 0;
