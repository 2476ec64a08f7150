-- What an evaluation says of each metric and each slice, as the API writes it.
ALTER TABLE reembed.evaluation
    ADD COLUMN metrics jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN slices jsonb NOT NULL DEFAULT '[]';
