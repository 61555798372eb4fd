-- An id is drawn at random more often than not, and entered once for each message: what
-- keeps it in order was the dearest part of a dispatch of many numbers a request.

-- A repeat may enter an id twice; it speaks of one delivery all the same.
ALTER TABLE handles DROP CONSTRAINT handles_pkey;
-- By its hash alone it is found as well, and entered for half as much.
CREATE INDEX handles_gateway ON handles USING hash (gateway_id);
-- Only the parts of a message are looked up by their delivery.
DROP INDEX handles_delivery;
CREATE INDEX handles_delivery ON handles (dispatch_no, ordinal, attempt) WHERE parts > 1;
