-- The whole data model of the pipeline. The same file, in PostgreSQL's words,
-- stands in migrations/postgres under the same number.
--
-- Times are epoch milliseconds UTC. `*_sealed` columns are ciphertext
-- (XChaCha20-Poly1305, key outside the database). `*_hash` columns are keyed
-- hashes (HMAC-SHA-256). Codes of states and the like are in src/domain.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- The next number of each kind of row, taken in ranges so that bulk work knows
-- its keys before it writes.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
) WITHOUT ROWID;

INSERT INTO counters (name, value) VALUES
    ('region', 0), ('area', 0), ('recipient', 0), ('address', 0), ('group', 0), ('list', 0),
    ('point', 0), ('dispatch', 0), ('batch', 0), ('receipt', 0), ('channel', 0), ('merge', 0), ('item', 0);

-- Who answers, and who acts -------------------------------------------------

CREATE TABLE units (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    phone      TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE operators (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    unit_id    TEXT NOT NULL REFERENCES units (id),
    roles      TEXT NOT NULL,               -- comma list
    region_no  BIGINT,                      -- bound to this subtree; NULL = everywhere
    active     BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL
);

-- Hash chain: hash = SHA-256(prev_hash || canonical row).
CREATE TABLE audit (
    seq      INTEGER PRIMARY KEY,
    at       BIGINT NOT NULL,
    operator TEXT NOT NULL,
    action   TEXT NOT NULL,
    subject  TEXT NOT NULL,
    detail   TEXT NOT NULL,                 -- JSON, no personal data
    hash     TEXT NOT NULL
);

-- Places --------------------------------------------------------------------

CREATE TABLE regions (
    no           INTEGER PRIMARY KEY,
    code         TEXT UNIQUE,               -- 12 digits; NULL for farms, hamlets, groups
    name         TEXT NOT NULL,
    parent_no    BIGINT REFERENCES regions (no),
    level        TEXT NOT NULL,             -- province city county town village custom
    edition      TEXT NOT NULL DEFAULT '',  -- of the division tables, e.g. 2023-06-30
    successor_no BIGINT REFERENCES regions (no)
);
CREATE INDEX regions_name ON regions (name);
CREATE INDEX regions_parent ON regions (parent_no, name);

-- Every (ancestor, descendant) pair, each region its own ancestor too.
CREATE TABLE region_closure (
    ancestor   BIGINT NOT NULL,
    descendant BIGINT NOT NULL,
    PRIMARY KEY (ancestor, descendant)
) WITHOUT ROWID;
CREATE INDEX region_closure_up ON region_closure (descendant, ancestor);

CREATE TABLE region_aliases (
    alias     TEXT NOT NULL,
    region_no BIGINT NOT NULL REFERENCES regions (no),
    PRIMARY KEY (alias, region_no)
) WITHOUT ROWID;

CREATE TABLE areas (
    no   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL DEFAULT ''
);

CREATE TABLE area_regions (
    area_no   BIGINT NOT NULL REFERENCES areas (no),
    region_no BIGINT NOT NULL REFERENCES regions (no),
    PRIMARY KEY (area_no, region_no)
) WITHOUT ROWID;

CREATE TABLE area_recipients (
    area_no      BIGINT NOT NULL REFERENCES areas (no),
    recipient_no BIGINT NOT NULL,
    PRIMARY KEY (area_no, recipient_no)
) WITHOUT ROWID;
CREATE INDEX area_recipients_of ON area_recipients (recipient_no, area_no);

-- People --------------------------------------------------------------------

CREATE TABLE recipients (
    no           INTEGER PRIMARY KEY,
    kind         INTEGER NOT NULL,          -- 1 person, 2 household, 3 organisation
    counted      INTEGER NOT NULL,          -- 1 = a member in its own right; 0 = a household whose persons are known, or merged away
    status       INTEGER NOT NULL DEFAULT 1,-- 1 active, 2 moved, 3 dead
    away         INTEGER NOT NULL DEFAULT 0,
    household_no BIGINT,
    region_no    BIGINT NOT NULL,           -- residence 常住地
    hukou_no     BIGINT,                    -- registered home 户籍地
    born         INTEGER,                   -- yyyymmdd
    languages    TEXT NOT NULL DEFAULT '',  -- ",yao,miao,"
    needs        TEXT NOT NULL DEFAULT '',  -- ",hearing,"
    attrs        TEXT NOT NULL DEFAULT '{}',-- declared attributes, JSON
    name_sealed  BLOB,
    name_hash    BLOB,
    ext_hash     BLOB UNIQUE,               -- of the external id
    merged_into  BIGINT,
    source       TEXT NOT NULL DEFAULT '',
    purpose      TEXT NOT NULL DEFAULT '',
    updated_at   BIGINT NOT NULL
);
CREATE INDEX recipients_region ON recipients (region_no);
CREATE INDEX recipients_household ON recipients (household_no) WHERE household_no IS NOT NULL;

-- Immutable: a changed number is another row.
CREATE TABLE addresses (
    id     INTEGER PRIMARY KEY,
    kind   INTEGER NOT NULL,                -- 1 phone, 2 e-mail
    hash   BLOB NOT NULL,
    sealed BLOB NOT NULL,                   -- AAD = address id + key id
    gone   INTEGER NOT NULL DEFAULT 0,      -- 1 after a gateway said it does not exist
    UNIQUE (kind, hash)
);

CREATE INDEX addresses_gone ON addresses (id) WHERE gone = 1;

CREATE TABLE recipient_addresses (
    recipient_no BIGINT NOT NULL,
    kind         INTEGER NOT NULL,
    priority     INTEGER NOT NULL,          -- lowest first
    address_id   BIGINT NOT NULL,
    via          INTEGER NOT NULL,          -- 1 self, 2 household, 3 guardian, 4 agent
    merge_no     BIGINT NOT NULL DEFAULT 0, -- lent by this merge
    PRIMARY KEY (recipient_no, kind, priority)
) WITHOUT ROWID;
CREATE INDEX recipient_addresses_of ON recipient_addresses (address_id);

CREATE TABLE opt_outs (
    kind      INTEGER NOT NULL,             -- of the address
    hash      BLOB NOT NULL,
    item_kind TEXT NOT NULL,                -- '*' = every kind that may be refused
    at        BIGINT NOT NULL,
    PRIMARY KEY (kind, hash, item_kind)
) WITHOUT ROWID;

-- Duplicates joined by rule; undone by taking back rows with this merge_no.
CREATE TABLE merges (
    no        INTEGER PRIMARY KEY,
    kept_no   BIGINT NOT NULL,
    merged_no BIGINT NOT NULL,
    rule      TEXT NOT NULL,
    at        BIGINT NOT NULL,
    operator  TEXT NOT NULL,
    undone_at BIGINT
);

CREATE TABLE groups (
    no          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    unit_id     TEXT REFERENCES units (id),
    rule        TEXT,                       -- an audience expression; NULL = a static list
    sensitive   INTEGER NOT NULL DEFAULT 0,
    list_date   TEXT NOT NULL DEFAULT '',
    valid_until BIGINT
);

CREATE TABLE group_members (
    group_no     BIGINT NOT NULL,
    recipient_no BIGINT NOT NULL,
    merge_no     BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (group_no, recipient_no)
) WITHOUT ROWID;
CREATE INDEX group_members_of ON group_members (recipient_no, group_no);

-- A list brings variables for each recipient: an amount, an appointment.
CREATE TABLE lists (
    no         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    columns    TEXT NOT NULL,               -- JSON array of variable names
    created_at BIGINT NOT NULL
);

CREATE TABLE list_rows (
    list_no      BIGINT NOT NULL,
    recipient_no BIGINT NOT NULL,
    row_no       BIGINT NOT NULL,           -- in the file it came from
    vars_sealed  BLOB NOT NULL,             -- JSON object
    PRIMARY KEY (list_no, recipient_no)
) WITHOUT ROWID;

-- Boards, screens, loudspeakers, desks.
CREATE TABLE points (
    no            INTEGER PRIMARY KEY,
    code          TEXT UNIQUE,
    name          TEXT NOT NULL,
    kind          TEXT NOT NULL,
    region_no     BIGINT NOT NULL REFERENCES regions (no),
    keeper_sealed BLOB,
    phone_id      BIGINT,
    UNIQUE (region_no, name)
);

CREATE TABLE point_households (
    point_no     BIGINT NOT NULL,
    recipient_no BIGINT NOT NULL,           -- a household
    PRIMARY KEY (point_no, recipient_no)
) WITHOUT ROWID;

-- A point that names no households serves all that live in these regions.
CREATE TABLE point_regions (
    point_no  BIGINT NOT NULL,
    region_no BIGINT NOT NULL,
    PRIMARY KEY (point_no, region_no)
) WITHOUT ROWID;

CREATE TABLE duty_officers (
    id          TEXT PRIMARY KEY,
    region_no   BIGINT NOT NULL REFERENCES regions (no),
    role        TEXT NOT NULL,
    place       INTEGER NOT NULL,           -- who is called first
    name_sealed BLOB NOT NULL,
    phone_id    BIGINT NOT NULL,
    UNIQUE (region_no, role, place)
);

-- What is made known ---------------------------------------------------------

CREATE TABLE items (
    id         TEXT PRIMARY KEY,
    no         BIGINT NOT NULL UNIQUE,      -- the short number people say
    kind       TEXT NOT NULL,
    version    INTEGER NOT NULL,            -- the newest
    unit_id    TEXT NOT NULL REFERENCES units (id),
    state      TEXT NOT NULL,               -- draft, approved, cancelled
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL
);

CREATE TABLE item_versions (
    item_id    TEXT NOT NULL REFERENCES items (id),
    version    INTEGER NOT NULL,
    title      TEXT NOT NULL,
    body       TEXT NOT NULL,               -- JSON of domain::item::Content
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (item_id, version)
);

CREATE TABLE item_relations (
    item_id   TEXT NOT NULL REFERENCES items (id),
    relation  TEXT NOT NULL,                -- updates corrects lifts withdraws interprets
    target_id TEXT NOT NULL REFERENCES items (id),
    PRIMARY KEY (item_id, relation, target_id)
);

CREATE TABLE approvals (
    id       TEXT PRIMARY KEY,
    item_id  TEXT NOT NULL REFERENCES items (id),
    version  INTEGER NOT NULL,
    type     TEXT NOT NULL,                 -- review, fast_lane, second
    operator TEXT NOT NULL,
    unit_id  TEXT NOT NULL,
    at       BIGINT NOT NULL,
    note     TEXT NOT NULL DEFAULT '',
    UNIQUE (item_id, version, type)
);

-- Sending --------------------------------------------------------------------

-- Names of channels as numbers, and what an operator set at run time.
CREATE TABLE channels (
    no     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE,
    rate   DOUBLE PRECISION,                -- parts a second; NULL = as declared
    paused INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE dispatches (
    no           INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    item_id      TEXT NOT NULL REFERENCES items (id),
    item_version INTEGER NOT NULL,
    audience     TEXT NOT NULL,             -- as typed
    canonical    TEXT NOT NULL,             -- as understood
    mode         TEXT NOT NULL,             -- live drill dry test
    lane         INTEGER NOT NULL,          -- 0 immediate 1 prompt 2 routine
    lane_reason  TEXT NOT NULL DEFAULT '',
    plan         TEXT NOT NULL,             -- JSON of domain::plan::Plan
    list_no      BIGINT,                    -- variables come from here
    state        TEXT NOT NULL,             -- active paused cancelled finished
    phase        TEXT NOT NULL,             -- snapshot plan waiting done
    step         INTEGER NOT NULL DEFAULT 0,
    step_due_at  BIGINT,                    -- when the next step begins
    cursor_no    BIGINT NOT NULL DEFAULT 0, -- snapshot: last recipient; step: last member
    members      BIGINT NOT NULL DEFAULT 0,
    deliveries   BIGINT NOT NULL DEFAULT 0,
    expected     TEXT NOT NULL DEFAULT '{}',-- what `gong plan` said, JSON
    created_at   BIGINT NOT NULL,
    created_by   TEXT NOT NULL,
    expires_at   BIGINT NOT NULL,
    effective_at BIGINT,                    -- when the event takes effect
    finished_at  BIGINT,
    purged_at    BIGINT,
    reach        TEXT                       -- JSON, materialised before a purge
);
CREATE INDEX dispatches_open ON dispatches (no) WHERE finished_at IS NULL;

CREATE TABLE members (
    dispatch_no  BIGINT NOT NULL,
    ordinal      BIGINT NOT NULL,
    recipient_no BIGINT NOT NULL,
    household_no BIGINT,
    region_no    BIGINT NOT NULL,
    away         INTEGER NOT NULL,
    groups       TEXT NOT NULL,             -- ",3,7,"
    vars_sealed  BLOB,
    PRIMARY KEY (dispatch_no, ordinal)
) WITHOUT ROWID;

CREATE TABLE deliveries (
    dispatch_no BIGINT NOT NULL,
    ordinal     BIGINT NOT NULL,
    step        INTEGER NOT NULL,
    channel     INTEGER NOT NULL,
    target      BIGINT NOT NULL,            -- address id, point no or (visits) household or recipient no
    variant     BIGINT NOT NULL,            -- 0, or the member whose own text it carries
    state       INTEGER NOT NULL,           -- domain::delivery::State
    batch       BIGINT NOT NULL,            -- 0 = in none
    epoch       BIGINT NOT NULL DEFAULT 0,
    attempt     INTEGER NOT NULL DEFAULT 1, -- the one under way or next
    failures    INTEGER NOT NULL DEFAULT 0, -- that count towards the limit
    parts       INTEGER NOT NULL DEFAULT 0,
    reason      INTEGER NOT NULL DEFAULT 0, -- domain::delivery::Reason
    next_at     BIGINT,
    handed_at   BIGINT,
    reached_at  BIGINT,
    seen_at     BIGINT,
    PRIMARY KEY (dispatch_no, ordinal)
) WITHOUT ROWID;
CREATE UNIQUE INDEX deliveries_target ON deliveries (dispatch_no, step, channel, target, variant);
CREATE INDEX deliveries_batch ON deliveries (batch, ordinal) WHERE batch > 0;
-- retry, deferred, uncertain, sent rows that wait for a time
CREATE INDEX deliveries_due ON deliveries (dispatch_no, next_at) WHERE next_at IS NOT NULL;

CREATE TABLE delivery_members (
    dispatch_no BIGINT NOT NULL,
    member      BIGINT NOT NULL,
    delivery    BIGINT NOT NULL,
    via         INTEGER NOT NULL,           -- 1 self 2 household 3 guardian 4 agent
    PRIMARY KEY (dispatch_no, member, delivery)
) WITHOUT ROWID;

CREATE TABLE batches (
    no          INTEGER PRIMARY KEY,
    dispatch_no BIGINT NOT NULL,
    channel     INTEGER NOT NULL,
    lane        INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    state       INTEGER NOT NULL,           -- 0 ready 1 leased 2 done
    owner       TEXT NOT NULL DEFAULT '',
    lease_until BIGINT,
    epoch       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX batches_ready ON batches (channel, lane, no) WHERE state = 0;
CREATE INDEX batches_leased ON batches (lease_until) WHERE state = 1;
CREATE INDEX batches_dispatch ON batches (dispatch_no, state);

-- Append-only: one row for every try and for every word about it that came late.
CREATE TABLE attempts (
    dispatch_no BIGINT NOT NULL,
    ordinal     BIGINT NOT NULL,
    attempt     INTEGER NOT NULL,
    batch       BIGINT NOT NULL,
    epoch       BIGINT NOT NULL,
    class       INTEGER NOT NULL,           -- channel outcome class
    code        TEXT NOT NULL,              -- the gateway's own word, never an address
    at          BIGINT NOT NULL,
    PRIMARY KEY (dispatch_no, ordinal, attempt, batch, epoch)
) WITHOUT ROWID;

CREATE TABLE handles (
    channel     INTEGER NOT NULL,
    gateway_id  TEXT NOT NULL,              -- normalised by the channel's rule
    dispatch_no BIGINT NOT NULL,
    ordinal     BIGINT NOT NULL,
    attempt     INTEGER NOT NULL,
    part        INTEGER NOT NULL,
    parts       INTEGER NOT NULL,
    state       INTEGER NOT NULL DEFAULT 0, -- last word about this part
    PRIMARY KEY (channel, gateway_id, dispatch_no, ordinal, part)
) WITHOUT ROWID;
CREATE INDEX handles_delivery ON handles (dispatch_no, ordinal, attempt);

CREATE TABLE receipts (
    no          INTEGER PRIMARY KEY,
    channel     INTEGER NOT NULL,
    received_at BIGINT NOT NULL,
    gateway_id  TEXT NOT NULL,              -- or '' where the client id matched
    state       INTEGER NOT NULL,           -- what it says
    code        TEXT NOT NULL,
    event_at    BIGINT,                     -- the gateway's own time
    dispatch_no BIGINT,                     -- NULL = unmatched yet
    ordinal     BIGINT,
    attempt     INTEGER,
    raw_sealed  BLOB
);
CREATE INDEX receipts_unmatched ON receipts (channel, gateway_id) WHERE dispatch_no IS NULL;
CREATE INDEX receipts_dispatch ON receipts (dispatch_no) WHERE dispatch_no IS NOT NULL;

-- Results of visits and calls, by hand or by CSV.
CREATE TABLE visits (
    dispatch_no BIGINT NOT NULL,
    ordinal     BIGINT NOT NULL,
    result      TEXT NOT NULL,              -- told absent moved refused
    operator    TEXT NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (dispatch_no, ordinal, at)
);
