-- The columns of the server's index; here the dispatch stood behind every entry anyway.
DROP INDEX deliveries_batch;
CREATE INDEX deliveries_batch ON deliveries (batch, dispatch_no, ordinal) WHERE batch > 0;
