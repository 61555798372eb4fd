-- What is under way is said by its batch, in one number: before, every delivery was
-- written twice, once to mark it and once to record its result (src/store/marks.rs).

-- The deliveries of a leased batch up to here are under way; 0 for none.
ALTER TABLE batches ADD COLUMN marked_to BIGINT NOT NULL DEFAULT 0 CHECK (marked_to = 0 OR state = 1);

-- What an engine left marked when it was killed: a takeover asks after it.
UPDATE batches SET marked_to = COALESCE((SELECT MAX(d.ordinal) FROM deliveries d
    WHERE d.dispatch_no = batches.dispatch_no AND d.batch = batches.no AND d.batch > 0 AND d.state = 2), 0)
    WHERE state = 1;
UPDATE deliveries SET state = 1
    WHERE state = 2 AND batch > 0 AND batch IN (SELECT no FROM batches WHERE state = 1);
-- Of the rest nobody knows: uncertain, without an answer (9), to be settled at once.
UPDATE deliveries SET state = 11, reason = 9, next_at = 0 WHERE state = 2;
