-- A batch is looked up within one range of the ledger, by the dispatch and its own
-- number. With both in the index the server need not cut the rows of the batch with
-- those of the whole dispatch, a million of them, each time one is loaded or marked.
DROP INDEX deliveries_batch;
CREATE INDEX deliveries_batch ON deliveries (batch, dispatch_no, ordinal) WHERE batch > 0;
