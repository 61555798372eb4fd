-- The ledger in ranges of dispatch numbers, so that years of it leave by detaching
-- tables instead of by deleting rows. What is there becomes the first range, in place.
--
-- A hundred numbers a range: a busy province's two days or a county's two months. The
-- many small dispatches (calls, tests, dry runs) share one; a huge one fills its own,
-- for the next dispatch then takes its number from the next range (store/partitions.rs).
--
-- Receipts stay whole: they come before anybody knows their dispatch, and would have
-- to move from one partition to another when they are matched.
--
-- Deliveries leave half of each page free: a row is changed three times (marked,
-- handed over, delivered), no changed column is indexed, and with room on the page no
-- index is touched. Measured: the changes take a quarter of the time, and the tables
-- end up smaller.

-- What a server knows of dispatch numbers is always of yesterday's: of today's dispatch,
-- a million rows by now, it would believe that it has none, and take whichever index
-- begins with the number. Of a column that it counts nothing of it believes neither.

-- To its own type: forgets what was counted, rewrites nothing.
ALTER TABLE deliveries ALTER dispatch_no TYPE BIGINT;

DO $$
DECLARE
    bound   BIGINT;
    whole   TEXT;
    first   TEXT;
    key     TEXT;
    indexes TEXT[];
    made    TEXT;
    old     TEXT;
BEGIN
    SELECT (value / 100 + 1) * 100 INTO bound FROM counters WHERE name = 'dispatch';
    FOREACH whole IN ARRAY ARRAY['members', 'deliveries', 'delivery_members', 'attempts', 'handles'] LOOP
        first := whole || '_0';
        SELECT pg_get_constraintdef(oid) INTO key FROM pg_constraint WHERE conrelid = whole::regclass AND contype = 'p';
        SELECT COALESCE(array_agg(pg_get_indexdef(indexrelid)), '{}') INTO indexes
            FROM pg_index WHERE indrelid = whole::regclass AND NOT indisprimary;
        FOR old IN SELECT c.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid WHERE x.indrelid = whole::regclass LOOP
            EXECUTE format('ALTER INDEX %I RENAME TO %I', old, replace(old, whole, first));
        END LOOP;
        EXECUTE format('ALTER TABLE %I RENAME TO %I', whole, first);
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS, %s) PARTITION BY RANGE (dispatch_no)', whole, first, key);
        FOREACH made IN ARRAY indexes LOOP
            EXECUTE made;
        END LOOP;
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (0) TO (%s)', whole, first, bound);
    END LOOP;
END $$;

ALTER TABLE deliveries_0 SET (fillfactor = 45);
ALTER TABLE deliveries ALTER dispatch_no SET STATISTICS 0;
