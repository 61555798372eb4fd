-- What channels besides SMS bring back: sheets put up and taken down, officers who
-- confirmed.

-- A call to duty officers belongs to the dispatch it is about; a further round to the
-- one before it.
ALTER TABLE dispatches ADD COLUMN parent_no BIGINT;
CREATE INDEX dispatches_parent ON dispatches (parent_no) WHERE parent_no IS NOT NULL;

-- 张贴回执: a sheet was put up, or taken down.
CREATE TABLE postings (
    dispatch_no  BIGINT NOT NULL,
    ordinal      BIGINT NOT NULL,
    action       TEXT COLLATE "C" NOT NULL,             -- posted, taken_down
    at           BIGINT NOT NULL,
    by_sealed    BYTEA,                      -- who put it up; a person's name
    take_down_at BIGINT,                    -- when it is to come down
    operator     TEXT COLLATE "C" NOT NULL,
    recorded_at  BIGINT NOT NULL,
    PRIMARY KEY (dispatch_no, ordinal, action, at)
);

-- 叫应: a duty officer of this region confirmed having heard of this dispatch.
CREATE TABLE confirmations (
    dispatch_no BIGINT NOT NULL,            -- the one the call is about
    region_no   BIGINT NOT NULL,
    how         TEXT COLLATE "C" NOT NULL,              -- link, reply, telephone
    call_no     BIGINT,                     -- the call and its delivery that were answered
    ordinal     BIGINT,
    operator    TEXT COLLATE "C" NOT NULL,              -- who entered it; empty for the officer's own
    at          BIGINT NOT NULL,
    PRIMARY KEY (dispatch_no, region_no, how, at)
);

-- What came back by SMS, sealed with the number it came from.
CREATE TABLE replies (
    no          BIGINT PRIMARY KEY,
    channel     INTEGER NOT NULL,
    received_at BIGINT NOT NULL,
    meaning     TEXT COLLATE "C" NOT NULL,              -- confirm, opt_out, other
    said_sealed BYTEA NOT NULL              -- JSON: from, text
);
INSERT INTO counters (name, value) VALUES ('reply', 0);

-- 入户通知: who knocked, a person's name.
ALTER TABLE visits ADD COLUMN by_sealed BYTEA;
