-- What other systems hand in and are told, over the message broker.

-- An item that another system handed in, under a key of its own: said again, it is
-- answered again, word for word.
CREATE TABLE intake (
    source    TEXT NOT NULL,                -- a name of [intake.sources]
    key       TEXT NOT NULL,                -- the source's own, for this item
    body_hash BLOB NOT NULL,                -- keyed
    answer    TEXT NOT NULL,                -- JSON, as it was sent
    item_id   TEXT NOT NULL REFERENCES items (id),
    at        BIGINT NOT NULL,
    PRIMARY KEY (source, key)
) WITHOUT ROWID;

-- Events that the broker has not confirmed yet; they go out in the order of their
-- numbers. No more is laid down before these are gone, so there are never many.
CREATE TABLE events (
    no    INTEGER PRIMARY KEY,
    id    TEXT NOT NULL,                    -- of the message: doubles have the same
    topic TEXT NOT NULL,                    -- dispatch.started, delivery.delivered …
    body  TEXT NOT NULL                     -- JSON: ids, states, counts, times
);

-- How a dispatch stood when it was last told of.
CREATE TABLE event_marks (
    dispatch_no BIGINT PRIMARY KEY,
    version     BIGINT NOT NULL,            -- one more each time: two tellers never tell the same
    mark        TEXT NOT NULL,              -- JSON of domain::event::Mark
    done        INTEGER NOT NULL            -- 1 = nothing more will be told
) WITHOUT ROWID;
CREATE INDEX event_marks_open ON event_marks (dispatch_no) WHERE done = 0;

INSERT INTO counters (name, value) VALUES ('event', 0);
-- The newest dispatch that was told of; what there was before is history.
INSERT INTO counters (name, value) SELECT 'event_dispatch', COALESCE(MAX(no), 0) FROM dispatches;
