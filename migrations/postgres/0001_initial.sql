-- The whole data model of the pipeline, in PostgreSQL's words. The comments stand
-- in migrations/sqlite under the same number; a test compares the two.
--
-- Text compares by bytes (COLLATE "C"), as it does in SQLite.

CREATE TABLE meta (
    key   TEXT COLLATE "C" PRIMARY KEY,
    value TEXT COLLATE "C" NOT NULL
);
CREATE TABLE counters (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value BIGINT NOT NULL
);

INSERT INTO counters (name, value) VALUES
    ('region', 0), ('area', 0), ('recipient', 0), ('address', 0), ('group', 0), ('list', 0),
    ('point', 0), ('dispatch', 0), ('batch', 0), ('receipt', 0), ('channel', 0), ('merge', 0), ('item', 0);

CREATE TABLE units (
    id         TEXT COLLATE "C" PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL UNIQUE,
    phone      TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE operators (
    id         TEXT COLLATE "C" PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL UNIQUE,
    unit_id    TEXT COLLATE "C" NOT NULL REFERENCES units (id),
    roles      TEXT COLLATE "C" NOT NULL,
    region_no  BIGINT,
    active     BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL
);
CREATE TABLE audit (
    seq      BIGINT PRIMARY KEY,
    at       BIGINT NOT NULL,
    operator TEXT COLLATE "C" NOT NULL,
    action   TEXT COLLATE "C" NOT NULL,
    subject  TEXT COLLATE "C" NOT NULL,
    detail   TEXT COLLATE "C" NOT NULL,
    hash     TEXT COLLATE "C" NOT NULL
);

CREATE TABLE regions (
    no           BIGINT PRIMARY KEY,
    code         TEXT COLLATE "C" UNIQUE,
    name         TEXT COLLATE "C" NOT NULL,
    parent_no    BIGINT REFERENCES regions (no),
    level        TEXT COLLATE "C" NOT NULL,
    edition      TEXT COLLATE "C" NOT NULL DEFAULT '',
    successor_no BIGINT REFERENCES regions (no)
);
CREATE INDEX regions_name ON regions (name);
CREATE INDEX regions_parent ON regions (parent_no, name);
CREATE TABLE region_closure (
    ancestor   BIGINT NOT NULL,
    descendant BIGINT NOT NULL,
    PRIMARY KEY (ancestor, descendant)
);
CREATE INDEX region_closure_up ON region_closure (descendant, ancestor);

CREATE TABLE region_aliases (
    alias     TEXT COLLATE "C" NOT NULL,
    region_no BIGINT NOT NULL REFERENCES regions (no),
    PRIMARY KEY (alias, region_no)
);

CREATE TABLE areas (
    no   BIGINT PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    kind TEXT COLLATE "C" NOT NULL DEFAULT ''
);

CREATE TABLE area_regions (
    area_no   BIGINT NOT NULL REFERENCES areas (no),
    region_no BIGINT NOT NULL REFERENCES regions (no),
    PRIMARY KEY (area_no, region_no)
);

CREATE TABLE area_recipients (
    area_no      BIGINT NOT NULL REFERENCES areas (no),
    recipient_no BIGINT NOT NULL,
    PRIMARY KEY (area_no, recipient_no)
);
CREATE INDEX area_recipients_of ON area_recipients (recipient_no, area_no);

CREATE TABLE recipients (
    no           BIGINT PRIMARY KEY,
    kind         INTEGER NOT NULL,
    counted      INTEGER NOT NULL,
    status       INTEGER NOT NULL DEFAULT 1,-- 1 active, 2 moved, 3 dead
    away         INTEGER NOT NULL DEFAULT 0,
    household_no BIGINT,
    region_no    BIGINT NOT NULL,
    hukou_no     BIGINT,
    born         INTEGER,
    languages    TEXT COLLATE "C" NOT NULL DEFAULT '',
    needs        TEXT COLLATE "C" NOT NULL DEFAULT '',
    attrs        TEXT COLLATE "C" NOT NULL DEFAULT '{}',-- declared attributes, JSON
    name_sealed  BYTEA,
    name_hash    BYTEA,
    ext_hash     BYTEA UNIQUE,
    merged_into  BIGINT,
    source       TEXT COLLATE "C" NOT NULL DEFAULT '',
    purpose      TEXT COLLATE "C" NOT NULL DEFAULT '',
    updated_at   BIGINT NOT NULL
);
CREATE INDEX recipients_region ON recipients (region_no);
CREATE INDEX recipients_household ON recipients (household_no) WHERE household_no IS NOT NULL;
CREATE TABLE addresses (
    id     BIGINT PRIMARY KEY,
    kind   INTEGER NOT NULL,
    hash   BYTEA NOT NULL,
    sealed BYTEA NOT NULL,
    gone   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (kind, hash)
);

CREATE INDEX addresses_gone ON addresses (id) WHERE gone = 1;
CREATE TABLE recipient_addresses (
    recipient_no BIGINT NOT NULL,
    kind         INTEGER NOT NULL,
    priority     INTEGER NOT NULL,
    address_id   BIGINT NOT NULL,
    via          INTEGER NOT NULL,
    merge_no     BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (recipient_no, kind, priority)
);
CREATE INDEX recipient_addresses_of ON recipient_addresses (address_id);

CREATE TABLE opt_outs (
    kind      INTEGER NOT NULL,
    hash      BYTEA NOT NULL,
    item_kind TEXT COLLATE "C" NOT NULL,
    at        BIGINT NOT NULL,
    PRIMARY KEY (kind, hash, item_kind)
);
CREATE TABLE merges (
    no        BIGINT PRIMARY KEY,
    kept_no   BIGINT NOT NULL,
    merged_no BIGINT NOT NULL,
    rule      TEXT COLLATE "C" NOT NULL,
    at        BIGINT NOT NULL,
    operator  TEXT COLLATE "C" NOT NULL,
    undone_at BIGINT
);

CREATE TABLE groups (
    no          BIGINT PRIMARY KEY,
    name        TEXT COLLATE "C" NOT NULL UNIQUE,
    unit_id     TEXT COLLATE "C" REFERENCES units (id),
    rule        TEXT COLLATE "C",
    sensitive   INTEGER NOT NULL DEFAULT 0,
    list_date   TEXT COLLATE "C" NOT NULL DEFAULT '',
    valid_until BIGINT
);

CREATE TABLE group_members (
    group_no     BIGINT NOT NULL,
    recipient_no BIGINT NOT NULL,
    merge_no     BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (group_no, recipient_no)
);
CREATE INDEX group_members_of ON group_members (recipient_no, group_no);
CREATE TABLE lists (
    no         BIGINT PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL UNIQUE,
    columns    TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE list_rows (
    list_no      BIGINT NOT NULL,
    recipient_no BIGINT NOT NULL,
    row_no       BIGINT NOT NULL,
    vars_sealed  BYTEA NOT NULL,
    PRIMARY KEY (list_no, recipient_no)
);
CREATE TABLE points (
    no            BIGINT PRIMARY KEY,
    code          TEXT COLLATE "C" UNIQUE,
    name          TEXT COLLATE "C" NOT NULL,
    kind          TEXT COLLATE "C" NOT NULL,
    region_no     BIGINT NOT NULL REFERENCES regions (no),
    keeper_sealed BYTEA,
    phone_id      BIGINT,
    UNIQUE (region_no, name)
);

CREATE TABLE point_households (
    point_no     BIGINT NOT NULL,
    recipient_no BIGINT NOT NULL,
    PRIMARY KEY (point_no, recipient_no)
);
CREATE TABLE point_regions (
    point_no  BIGINT NOT NULL,
    region_no BIGINT NOT NULL,
    PRIMARY KEY (point_no, region_no)
);

CREATE TABLE duty_officers (
    id          TEXT COLLATE "C" PRIMARY KEY,
    region_no   BIGINT NOT NULL REFERENCES regions (no),
    role        TEXT COLLATE "C" NOT NULL,
    place       INTEGER NOT NULL,
    name_sealed BYTEA NOT NULL,
    phone_id    BIGINT NOT NULL,
    UNIQUE (region_no, role, place)
);

CREATE TABLE items (
    id         TEXT COLLATE "C" PRIMARY KEY,
    no         BIGINT NOT NULL UNIQUE,
    kind       TEXT COLLATE "C" NOT NULL,
    version    INTEGER NOT NULL,
    unit_id    TEXT COLLATE "C" NOT NULL REFERENCES units (id),
    state      TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL
);

CREATE TABLE item_versions (
    item_id    TEXT COLLATE "C" NOT NULL REFERENCES items (id),
    version    INTEGER NOT NULL,
    title      TEXT COLLATE "C" NOT NULL,
    body       TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (item_id, version)
);

CREATE TABLE item_relations (
    item_id   TEXT COLLATE "C" NOT NULL REFERENCES items (id),
    relation  TEXT COLLATE "C" NOT NULL,
    target_id TEXT COLLATE "C" NOT NULL REFERENCES items (id),
    PRIMARY KEY (item_id, relation, target_id)
);

CREATE TABLE approvals (
    id       TEXT COLLATE "C" PRIMARY KEY,
    item_id  TEXT COLLATE "C" NOT NULL REFERENCES items (id),
    version  INTEGER NOT NULL,
    type     TEXT COLLATE "C" NOT NULL,
    operator TEXT COLLATE "C" NOT NULL,
    unit_id  TEXT COLLATE "C" NOT NULL,
    at       BIGINT NOT NULL,
    note     TEXT COLLATE "C" NOT NULL DEFAULT '',
    UNIQUE (item_id, version, type)
);
CREATE TABLE channels (
    no     INTEGER PRIMARY KEY,
    name   TEXT COLLATE "C" NOT NULL UNIQUE,
    rate   DOUBLE PRECISION,
    paused INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE dispatches (
    no           BIGINT PRIMARY KEY,
    id           TEXT COLLATE "C" NOT NULL UNIQUE,
    item_id      TEXT COLLATE "C" NOT NULL REFERENCES items (id),
    item_version INTEGER NOT NULL,
    audience     TEXT COLLATE "C" NOT NULL,
    canonical    TEXT COLLATE "C" NOT NULL,
    mode         TEXT COLLATE "C" NOT NULL,
    lane         INTEGER NOT NULL,
    lane_reason  TEXT COLLATE "C" NOT NULL DEFAULT '',
    plan         TEXT COLLATE "C" NOT NULL,
    list_no      BIGINT,
    state        TEXT COLLATE "C" NOT NULL,
    phase        TEXT COLLATE "C" NOT NULL,
    step         INTEGER NOT NULL DEFAULT 0,
    step_due_at  BIGINT,
    cursor_no    BIGINT NOT NULL DEFAULT 0,
    members      BIGINT NOT NULL DEFAULT 0,
    deliveries   BIGINT NOT NULL DEFAULT 0,
    expected     TEXT COLLATE "C" NOT NULL DEFAULT '{}',-- what `gong plan` said, JSON
    created_at   BIGINT NOT NULL,
    created_by   TEXT COLLATE "C" NOT NULL,
    expires_at   BIGINT NOT NULL,
    effective_at BIGINT,
    finished_at  BIGINT,
    purged_at    BIGINT,
    reach        TEXT COLLATE "C"
);
CREATE INDEX dispatches_open ON dispatches (no) WHERE finished_at IS NULL;

CREATE TABLE members (
    dispatch_no  BIGINT NOT NULL,
    ordinal      BIGINT NOT NULL,
    recipient_no BIGINT NOT NULL,
    household_no BIGINT,
    region_no    BIGINT NOT NULL,
    away         INTEGER NOT NULL,
    groups       TEXT COLLATE "C" NOT NULL,
    vars_sealed  BYTEA,
    PRIMARY KEY (dispatch_no, ordinal)
);

CREATE TABLE deliveries (
    dispatch_no BIGINT NOT NULL,
    ordinal     BIGINT NOT NULL,
    step        INTEGER NOT NULL,
    channel     INTEGER NOT NULL,
    target      BIGINT NOT NULL,
    variant     BIGINT NOT NULL,
    state       INTEGER NOT NULL,
    batch       BIGINT NOT NULL,
    epoch       BIGINT NOT NULL DEFAULT 0,
    attempt     INTEGER NOT NULL DEFAULT 1,
    failures    INTEGER NOT NULL DEFAULT 0,
    parts       INTEGER NOT NULL DEFAULT 0,
    reason      INTEGER NOT NULL DEFAULT 0,
    next_at     BIGINT,
    handed_at   BIGINT,
    reached_at  BIGINT,
    seen_at     BIGINT,
    PRIMARY KEY (dispatch_no, ordinal)
);
CREATE UNIQUE INDEX deliveries_target ON deliveries (dispatch_no, step, channel, target, variant);
CREATE INDEX deliveries_batch ON deliveries (batch, ordinal) WHERE batch > 0;
CREATE INDEX deliveries_due ON deliveries (dispatch_no, next_at) WHERE next_at IS NOT NULL;

CREATE TABLE delivery_members (
    dispatch_no BIGINT NOT NULL,
    member      BIGINT NOT NULL,
    delivery    BIGINT NOT NULL,
    via         INTEGER NOT NULL,
    PRIMARY KEY (dispatch_no, member, delivery)
);

CREATE TABLE batches (
    no          BIGINT PRIMARY KEY,
    dispatch_no BIGINT NOT NULL,
    channel     INTEGER NOT NULL,
    lane        INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    state       INTEGER NOT NULL,
    owner       TEXT COLLATE "C" NOT NULL DEFAULT '',
    lease_until BIGINT,
    epoch       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX batches_ready ON batches (channel, lane, no) WHERE state = 0;
CREATE INDEX batches_leased ON batches (lease_until) WHERE state = 1;
CREATE INDEX batches_dispatch ON batches (dispatch_no, state);
CREATE TABLE attempts (
    dispatch_no BIGINT NOT NULL,
    ordinal     BIGINT NOT NULL,
    attempt     INTEGER NOT NULL,
    batch       BIGINT NOT NULL,
    epoch       BIGINT NOT NULL,
    class       INTEGER NOT NULL,
    code        TEXT COLLATE "C" NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (dispatch_no, ordinal, attempt, batch, epoch)
);

CREATE TABLE handles (
    channel     INTEGER NOT NULL,
    gateway_id  TEXT COLLATE "C" NOT NULL,
    dispatch_no BIGINT NOT NULL,
    ordinal     BIGINT NOT NULL,
    attempt     INTEGER NOT NULL,
    part        INTEGER NOT NULL,
    parts       INTEGER NOT NULL,
    state       INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (channel, gateway_id, dispatch_no, ordinal, part)
);
CREATE INDEX handles_delivery ON handles (dispatch_no, ordinal, attempt);

CREATE TABLE receipts (
    no          BIGINT PRIMARY KEY,
    channel     INTEGER NOT NULL,
    received_at BIGINT NOT NULL,
    gateway_id  TEXT COLLATE "C" NOT NULL,
    state       INTEGER NOT NULL,
    code        TEXT COLLATE "C" NOT NULL,
    event_at    BIGINT,
    dispatch_no BIGINT,
    ordinal     BIGINT,
    attempt     INTEGER,
    raw_sealed  BYTEA
);
CREATE INDEX receipts_unmatched ON receipts (channel, gateway_id) WHERE dispatch_no IS NULL;
CREATE INDEX receipts_dispatch ON receipts (dispatch_no) WHERE dispatch_no IS NOT NULL;
CREATE TABLE visits (
    dispatch_no BIGINT NOT NULL,
    ordinal     BIGINT NOT NULL,
    result      TEXT COLLATE "C" NOT NULL,
    operator    TEXT COLLATE "C" NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (dispatch_no, ordinal, at)
);
