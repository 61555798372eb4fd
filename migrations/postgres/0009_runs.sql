-- A gateway says the same of a thousand deliveries that follow one another: that is one
-- row now, a run of them, where it was a thousand (src/store/turn/attempts.rs).

-- How many deliveries after `ordinal` heard the same, 999 at most. Without a CHECK: to
-- prove it of old rows, a server would read all of them while everybody waits.
ALTER TABLE attempts ADD COLUMN more INTEGER NOT NULL DEFAULT 0;

-- One row for every try, as attempts had before.
CREATE VIEW tries AS
    SELECT a.dispatch_no, o.ordinal, a.attempt, a.batch, a.epoch, a.class, a.code, a.at
    FROM attempts a
    CROSS JOIN LATERAL generate_series(a.ordinal, a.ordinal + a.more) AS o (ordinal);
