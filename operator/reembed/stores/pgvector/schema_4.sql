-- How a collection's vector index was built, and what share of the nearest vectors it finds (NULL: not measured).
ALTER TABLE reembed.collection
    ADD COLUMN m integer,
    ADD COLUMN ef_construction integer,
    ADD COLUMN recall double precision CHECK (recall BETWEEN 0 AND 1),
    ADD COLUMN recall_queries integer,
    ADD COLUMN recall_at timestamptz;
