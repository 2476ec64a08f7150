-- Live writes. Nothing wrote the tables of version 1 that are made anew here.

-- What triggers on the source saw, one row a change: rows are only ever inserted by the application's transactions and
-- only ever deleted by the store worker, so neither waits for the other or fails for it. `id` NULL is every document.
DROP TABLE reembed.dirty;
CREATE TABLE reembed.dirty (
    index_key text NOT NULL,
    rev bigint NOT NULL DEFAULT nextval('reembed.rev'), -- drawn while the document is locked: its order is that of its changes
    id text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (index_key, rev)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- What each collection lacks; the application's transactions never touch it. `at` is when the worker could first see it.
DROP TABLE reembed.owed;
CREATE TABLE reembed.owed (
    collection text NOT NULL REFERENCES reembed.collection (name) ON DELETE CASCADE,
    id text NOT NULL,
    rev bigint NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (collection, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ON reembed.owed (collection, rev);

-- The unbroken stretch of capture: `epoch` grows whenever changes may have been missed.
DROP TABLE reembed.epoch;
CREATE TABLE reembed.capture (
    index_key text PRIMARY KEY,
    epoch bigint NOT NULL,
    relations oid[] NOT NULL, -- the source and its partitions
    definition text NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);

-- Changes that a trigger could not mark; written by it in place of an error in the application's statement.
CREATE TABLE reembed.gap (
    index_key text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    message text NOT NULL
);
CREATE INDEX ON reembed.gap (index_key);

-- What the last whole comparison with the source found; epoch 0 of before is that of no capture.
ALTER TABLE reembed.collection
    ADD COLUMN compared_at timestamptz,
    ADD COLUMN missing bigint NOT NULL DEFAULT 0,
    ADD COLUMN stale bigint NOT NULL DEFAULT 0,
    ADD COLUMN orphaned bigint NOT NULL DEFAULT 0;
