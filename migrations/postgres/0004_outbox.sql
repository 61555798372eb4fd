-- The batch row is the outbox of a message broker.

-- The epoch that the broker confirmed to hold a message of; a batch is to be published
-- where it is another than the batch's own.
ALTER TABLE batches ADD COLUMN published_epoch BIGINT NOT NULL DEFAULT -1;
ALTER TABLE batches ADD COLUMN published_at BIGINT;
CREATE INDEX batches_outbox ON batches (channel, lane, no) WHERE state = 0 AND published_epoch <> epoch;
CREATE INDEX batches_published ON batches (channel, lane, published_at) WHERE state = 0 AND published_epoch = epoch;
