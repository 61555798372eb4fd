-- Many engines on one server store: who is there, who leads, and who may send how fast.
-- On the embedded store these tables stay empty. All times are the database's own.

-- An engine that runs, and what it says of itself every second.
CREATE TABLE workers (
    owner      TEXT PRIMARY KEY,            -- as in batches.owner
    host       TEXT NOT NULL,
    pid        BIGINT NOT NULL,
    roles      TEXT NOT NULL,               -- planner,scheduler,workers,web
    started_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    report     TEXT NOT NULL                -- JSON: what each channel it serves could do with
);

-- What one engine may send on a channel until then. The leading scheduler alone writes
-- here; what may be sent by all together never exceeds the channel's rate.
CREATE TABLE shares (
    channel    INTEGER NOT NULL,
    owner      TEXT NOT NULL,
    rate       DOUBLE PRECISION NOT NULL,   -- parts a second
    seq        BIGINT NOT NULL,             -- of this rate; the engine reports which it obeys
    until_at   BIGINT NOT NULL,
    held       DOUBLE PRECISION NOT NULL,   -- what it may still send at, before it obeys
    held_until BIGINT NOT NULL,
    PRIMARY KEY (channel, owner)
);

-- Who acts in a role that one engine at a time has.
CREATE TABLE leaders (
    role     TEXT PRIMARY KEY,              -- planner, scheduler
    owner    TEXT NOT NULL,
    until_at BIGINT NOT NULL,
    term     BIGINT NOT NULL                -- one more with every change of owner
);
