-- The server's catalog, version 1. Every time is milliseconds since 1970-01-01 UTC (`_ms`), every id a UUID in text unless
-- said otherwise, every column ending in `_json` is the JSON of the struct named beside it. What a storage holds can be
-- read back from the storage (its points); everything else lives here only and belongs into a metadata backup.

-- Named single values of the system itself.
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,      -- what it is, such as `server_id`
    value TEXT NOT NULL          -- its value, as text
) STRICT;

-- Houses that share the system without seeing each other. The first, `default`, is made with the catalog.
CREATE TABLE tenants (
    tenant_id     TEXT PRIMARY KEY,            -- id; `default` for the first
    name          TEXT NOT NULL UNIQUE,        -- shown to people
    is_enabled    INTEGER NOT NULL DEFAULT 1,  -- 0: nobody of it may log in, none of its schedules fires
    created_at_ms INTEGER NOT NULL             -- when it was made
) STRICT;

-- People and programs that may log in.
CREATE TABLE users (
    user_id              TEXT PRIMARY KEY,                           -- id
    tenant_id            TEXT NOT NULL REFERENCES tenants,           -- the house it belongs to
    name                 TEXT NOT NULL UNIQUE COLLATE NOCASE,        -- what is typed to log in
    display_name         TEXT NOT NULL,                              -- shown to people
    password_hash        TEXT NOT NULL,                              -- argon2id in its PHC spelling
    must_change_password INTEGER NOT NULL DEFAULT 0,                 -- 1 until the user replaced a given password
    is_enabled           INTEGER NOT NULL DEFAULT 1,                 -- 0: may not log in
    failed_logins        INTEGER NOT NULL DEFAULT 0,                 -- wrong passwords since the last right one
    locked_until_ms      INTEGER,                                    -- no log-in before this moment; NULL: not locked out
    created_at_ms        INTEGER NOT NULL,                           -- when it was made
    last_login_at_ms     INTEGER                                     -- last right password; NULL: never
) STRICT;

-- Which roles a user has. What a role may do stands in the server's table of roles.
CREATE TABLE user_roles (
    user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE,        -- the user
    role    TEXT NOT NULL,                                           -- name of a preset role
    PRIMARY KEY (user_id, role)
) STRICT, WITHOUT ROWID;

-- Open sessions of users.
CREATE TABLE sessions (
    token_hash    BLOB PRIMARY KEY,                                  -- SHA-256 of the token; the token itself is not kept
    user_id       TEXT NOT NULL REFERENCES users ON DELETE CASCADE,  -- whose it is
    address       TEXT NOT NULL,                                     -- where the log-in came from
    created_at_ms INTEGER NOT NULL,                                  -- when it was opened
    used_at_ms    INTEGER NOT NULL,                                  -- last call it carried, to the minute
    expires_at_ms INTEGER NOT NULL                                   -- dead from then on, whatever its use
) STRICT;
CREATE INDEX sessions_by_user ON sessions (user_id);

-- Certificates the authority has issued.
CREATE TABLE certificates (
    serial        TEXT PRIMARY KEY,          -- serial number, hex
    role          TEXT NOT NULL,             -- server, node, agent or console
    holder_id     TEXT NOT NULL,             -- id of the machine in the certificate
    not_after_ms  INTEGER NOT NULL,          -- end of validity
    issued_at_ms  INTEGER NOT NULL,          -- when it was issued
    revoked_at_ms INTEGER                    -- refused from then on; NULL: good
) STRICT;
CREATE INDEX certificates_by_holder ON certificates (holder_id);

-- Machines that run jobs and own storages.
CREATE TABLE nodes (
    node_id         TEXT PRIMARY KEY,            -- id, as in its certificate
    name            TEXT NOT NULL UNIQUE,        -- shown to people
    data_address    TEXT NOT NULL DEFAULT '',    -- `address:port` of its data channels, as last announced
    version         TEXT NOT NULL DEFAULT '',    -- of its software, as last announced
    is_draining     INTEGER NOT NULL DEFAULT 0,  -- 1: no new runs are placed there
    is_revoked      INTEGER NOT NULL DEFAULT 0,  -- 1: its certificate is refused
    enrolled_at_ms  INTEGER NOT NULL,            -- when it came in
    last_seen_at_ms INTEGER                      -- end of its last link, or now; NULL: never
) STRICT;

-- Protected machines.
CREATE TABLE hosts (
    host_id             TEXT PRIMARY KEY,                    -- id, as in its agent's certificate
    tenant_id           TEXT NOT NULL REFERENCES tenants,    -- house it belongs to
    name                TEXT NOT NULL UNIQUE COLLATE NOCASE, -- shown to people, changeable
    host_name           TEXT NOT NULL DEFAULT '',            -- what the machine calls itself
    link_mode           TEXT NOT NULL DEFAULT 'active',      -- active: the agent dials; passive: it is dialled
    address             TEXT,                                -- passive: `address:port` to dial; active: where it came from
    agent_version       TEXT NOT NULL DEFAULT '',            -- as last announced
    operating_system    TEXT NOT NULL DEFAULT '',            -- as last announced
    capabilities_json   TEXT NOT NULL DEFAULT '[]',          -- list of words, as last announced
    clock_skew_ms       INTEGER NOT NULL DEFAULT 0,          -- its clock minus ours, at the last registration
    is_revoked          INTEGER NOT NULL DEFAULT 0,          -- 1: deleted; kept because points and runs name it
    enrolled_at_ms      INTEGER NOT NULL,                    -- when it came in
    last_seen_at_ms     INTEGER                              -- end of its last link, or now; NULL: never
) STRICT;

-- Places where points live.
CREATE TABLE storages (
    storage_id     TEXT PRIMARY KEY,                  -- id
    tenant_id      TEXT NOT NULL REFERENCES tenants,  -- house it belongs to
    node_id        TEXT NOT NULL REFERENCES nodes,    -- the node that has it open
    name           TEXT NOT NULL UNIQUE,              -- shown to people
    path           TEXT NOT NULL,                     -- directory on the node
    key_file       TEXT,                              -- file on the node with its key; NULL: not encrypted. Never the key
    encryption     TEXT NOT NULL,                     -- none, aes-256-gcm or sm4-gcm
    compression    INTEGER,                           -- level 1 to 4; NULL: none
    is_online      INTEGER NOT NULL DEFAULT 0,        -- 1: its node had it open when it last said so
    problem        TEXT NOT NULL DEFAULT '',          -- why not
    stored_bytes   INTEGER NOT NULL DEFAULT 0,        -- bytes of its packs, as last announced
    capacity_bytes INTEGER NOT NULL DEFAULT 0,        -- size of its file system, as last announced
    free_bytes     INTEGER NOT NULL DEFAULT 0,        -- free there, as last announced
    measured_at_ms INTEGER,                           -- when that was; NULL: never
    created_at_ms  INTEGER NOT NULL,                  -- when it was made or attached
    UNIQUE (node_id, path)
) STRICT;

-- Configured tasks.
CREATE TABLE jobs (
    job_id         TEXT PRIMARY KEY,                    -- id
    tenant_id      TEXT NOT NULL REFERENCES tenants,    -- house it belongs to
    name           TEXT NOT NULL UNIQUE COLLATE NOCASE, -- shown to people
    kind           TEXT NOT NULL,                       -- disk or files
    storage_id     TEXT NOT NULL REFERENCES storages,   -- where its points go
    schedules_json TEXT NOT NULL,                       -- list of schemas.api.Schedule
    options_json   TEXT NOT NULL,                       -- schemas.api.JobOptions
    is_enabled     INTEGER NOT NULL DEFAULT 1,          -- 0: its schedule does not fire
    revision       INTEGER NOT NULL DEFAULT 1,          -- counts edits
    created_at_ms  INTEGER NOT NULL,                    -- when it was made
    created_by     TEXT NOT NULL,                       -- user name
    next_run_at_ms INTEGER,                             -- when its schedule fires next; NULL: never
    next_type      TEXT,                                -- backup type of that firing
    fired_at_ms    INTEGER                              -- when its schedule fired last, by plan; NULL: never
) STRICT;
CREATE INDEX jobs_due ON jobs (next_run_at_ms) WHERE is_enabled = 1 AND next_run_at_ms IS NOT NULL;
CREATE INDEX jobs_by_storage ON jobs (storage_id);

-- What a job protects: one row per host and path.
CREATE TABLE job_sources (
    job_id   TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,  -- the job
    position INTEGER NOT NULL,                                 -- order in which people gave them
    host_id  TEXT NOT NULL REFERENCES hosts,                   -- the host
    path     TEXT NOT NULL,                                    -- disk or directory there
    PRIMARY KEY (job_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_sources_by_host ON job_sources (host_id);

-- Things under protection: a disk or a directory of a host. The name is fixed at first use, so renaming a host keeps the
-- chain of points.
CREATE TABLE objects (
    object_name   TEXT PRIMARY KEY,                -- name of the object in storages
    host_id       TEXT NOT NULL REFERENCES hosts,  -- the host
    kind          TEXT NOT NULL,                   -- disk or files
    path          TEXT NOT NULL,                   -- disk or directory there
    created_at_ms INTEGER NOT NULL,                -- first use
    UNIQUE (host_id, kind, path)
) STRICT;

-- Executions: of a job on one host, a restore, a verification, a collection.
CREATE TABLE runs (
    run_id           TEXT PRIMARY KEY,              -- id
    sequence         INTEGER NOT NULL UNIQUE,       -- counts runs; newest first is this, downwards
    tenant_id        TEXT NOT NULL REFERENCES tenants,  -- house it belongs to
    batch_id         TEXT NOT NULL,                 -- the same for runs started together
    kind             TEXT NOT NULL,                 -- schemas.api.RunKind
    state            TEXT NOT NULL,                 -- schemas.api.RunState
    job_id           TEXT,                          -- its job; NULL: none. No reference: a run outlives its job
    job_name         TEXT NOT NULL DEFAULT '',      -- as it was at the start
    host_id          TEXT,                          -- host whose agent works; NULL: the node works alone
    host_name        TEXT NOT NULL DEFAULT '',      -- as it was at the start
    node_id          TEXT,                          -- node that serves it; NULL until placed
    storage_id       TEXT,                          -- storage written or read
    storage_name     TEXT NOT NULL DEFAULT '',      -- as it was at the start
    backup_type      TEXT,                          -- of a backup; NULL otherwise
    spec_json        TEXT NOT NULL,                 -- schemas.control.RunSpec, as of the first attempt
    attempt          INTEGER NOT NULL DEFAULT 1,    -- 1 for the first
    attempts_max     INTEGER NOT NULL DEFAULT 1,    -- retries end there
    retry_seconds    INTEGER NOT NULL DEFAULT 30,   -- wait before the first retry; doubles
    is_cancel_asked  INTEGER NOT NULL DEFAULT 0,    -- 1: somebody wants it stopped
    created_by       TEXT NOT NULL,                 -- user name or `schedule`
    created_at_ms    INTEGER NOT NULL,              -- when it was queued
    not_before_ms    INTEGER NOT NULL,              -- a queued run waits for this moment
    started_at_ms    INTEGER,                       -- first attempt taken on by the agent or node; NULL: not yet
    ended_at_ms      INTEGER,                       -- reached a final state; NULL: open
    progress_json    TEXT NOT NULL DEFAULT '{}',    -- schemas.api.RunProgress; written every few seconds while running
    warning_count    INTEGER NOT NULL DEFAULT 0,    -- things that could not be read
    error_code       TEXT NOT NULL DEFAULT '',      -- code of the error tree; of the last attempt
    error            TEXT NOT NULL DEFAULT ''       -- message and hint; of the last attempt
) STRICT;
CREATE INDEX runs_open ON runs (state) WHERE ended_at_ms IS NULL;
CREATE INDEX runs_by_state ON runs (state, sequence);
CREATE INDEX runs_by_job ON runs (job_id, sequence);
CREATE INDEX runs_by_host ON runs (host_id, sequence);
CREATE INDEX runs_by_storage ON runs (storage_id, sequence);
CREATE INDEX runs_by_batch ON runs (batch_id);
CREATE INDEX runs_by_created ON runs (created_at_ms);
CREATE INDEX runs_by_ended ON runs (ended_at_ms);

-- Log of each run.
CREATE TABLE run_log (
    run_id   TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,  -- the run
    sequence INTEGER NOT NULL,                                 -- 1, 2, 3, ... within the run
    attempt  INTEGER NOT NULL,                                 -- attempt the line belongs to
    time_ms  INTEGER NOT NULL,                                 -- when it was said, by the sayer's clock
    level    TEXT NOT NULL,                                    -- info, warning or error
    text     TEXT NOT NULL,                                    -- what was said
    PRIMARY KEY (run_id, sequence)
) STRICT, WITHOUT ROWID;

-- Restore points, as the nodes announce them. Can be made anew from the storages.
CREATE TABLE points (
    point_id       TEXT PRIMARY KEY,               -- 32 hex digits
    storage_id     TEXT NOT NULL REFERENCES storages ON DELETE CASCADE,  -- where it lives
    time_ms        INTEGER NOT NULL,               -- when it was committed, by the node's clock
    started_at_ms  INTEGER NOT NULL,               -- when its backup began
    object_name    TEXT NOT NULL,                  -- what it is a point of
    kind           TEXT NOT NULL,                  -- disk or files
    backup_type    TEXT NOT NULL,                  -- full, incremental or differential
    source         TEXT NOT NULL,                  -- path on its host
    host_id        TEXT,                           -- host of this system it came from; NULL: of another system
    host_name      TEXT NOT NULL,                  -- name of the host then
    job_id         TEXT,                           -- job that made it; NULL: none of this system
    run_id         TEXT,                           -- run that made it
    parent_id      TEXT,                           -- point it was compared with; NULL: full
    logical_bytes  INTEGER NOT NULL,               -- what it protects
    new_bytes      INTEGER NOT NULL,               -- plain bytes of the chunks it added
    stored_bytes   INTEGER NOT NULL,               -- the same, compressed
    warning_count  INTEGER NOT NULL,               -- things that could not be read
    verified_at_ms INTEGER,                        -- last verification; NULL: never
    verified_ok    INTEGER,                        -- its result; NULL: never
    scan_id        TEXT NOT NULL DEFAULT ''        -- last scan of the storage that saw it
) STRICT;
CREATE INDEX points_by_time ON points (time_ms, point_id);
CREATE INDEX points_by_object ON points (object_name, time_ms, point_id);
CREATE INDEX points_by_host ON points (host_id, time_ms, point_id);
CREATE INDEX points_by_job ON points (job_id, time_ms, point_id);
CREATE INDEX points_by_storage ON points (storage_id, time_ms, point_id);
CREATE INDEX points_by_kind ON points (kind, time_ms, point_id);
CREATE INDEX points_by_run ON points (run_id);

-- Points served as disks (instant recovery). An entry lives until somebody stops it; its node serves it again after a
-- restart.
CREATE TABLE exports (
    export_id     TEXT PRIMARY KEY,                      -- id
    tenant_id     TEXT NOT NULL REFERENCES tenants,      -- house it belongs to
    node_id       TEXT NOT NULL REFERENCES nodes,        -- the node that serves it
    storage_id    TEXT NOT NULL REFERENCES storages,     -- where the point lives
    point_id      TEXT NOT NULL,                         -- the point
    object_name   TEXT NOT NULL,                         -- what it is a point of
    is_writable   INTEGER NOT NULL,                      -- 1: writes go to a cache beside
    url           TEXT NOT NULL DEFAULT '',              -- where it is read, as the node last said
    mount_command TEXT NOT NULL DEFAULT '',              -- example for people
    created_at_ms INTEGER NOT NULL,                      -- when it was started
    created_by    TEXT NOT NULL                          -- user name
) STRICT;

-- Who did what. Entries are only ever added; each carries a hash over itself and the hash before it.
CREATE TABLE audit (
    sequence  INTEGER PRIMARY KEY,       -- 1, 2, 3, ... without a gap
    time_ms   INTEGER NOT NULL,          -- when
    tenant_id TEXT NOT NULL,             -- house of the user
    user_name TEXT NOT NULL,             -- who; `system` for what happens by itself
    address   TEXT NOT NULL,             -- from where
    action    TEXT NOT NULL,             -- name of the call or of the event
    target    TEXT NOT NULL,             -- what it was about
    state     TEXT NOT NULL,             -- ok, refused or failed
    text      TEXT NOT NULL,             -- details for people, no secrets
    hash      BLOB NOT NULL              -- SHA-256 over the previous hash and the fields above
) STRICT;
CREATE INDEX audit_by_time ON audit (time_ms);
CREATE INDEX audit_by_user ON audit (user_name, sequence);
CREATE INDEX audit_by_action ON audit (action, sequence);
