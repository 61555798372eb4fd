-- Many engines on one server store. The comments stand in migrations/sqlite.

CREATE TABLE workers (
    owner      TEXT COLLATE "C" PRIMARY KEY,
    host       TEXT COLLATE "C" NOT NULL,
    pid        BIGINT NOT NULL,
    roles      TEXT COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    report     TEXT COLLATE "C" NOT NULL
);

CREATE TABLE shares (
    channel    INTEGER NOT NULL,
    owner      TEXT COLLATE "C" NOT NULL,
    rate       DOUBLE PRECISION NOT NULL,
    seq        BIGINT NOT NULL,
    until_at   BIGINT NOT NULL,
    held       DOUBLE PRECISION NOT NULL,
    held_until BIGINT NOT NULL,
    PRIMARY KEY (channel, owner)
);

CREATE TABLE leaders (
    role     TEXT COLLATE "C" PRIMARY KEY,
    owner    TEXT COLLATE "C" NOT NULL,
    until_at BIGINT NOT NULL,
    term     BIGINT NOT NULL
);
