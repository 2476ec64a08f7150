-- What inspections found, as the API writes it; of each collection the last few.
CREATE TABLE reembed.inspection (
    id text PRIMARY KEY, -- who asked for it, so that one that is repeated is one
    collection text NOT NULL REFERENCES reembed.collection (name) ON DELETE CASCADE,
    at timestamptz NOT NULL,
    report jsonb NOT NULL
);
CREATE INDEX ON reembed.inspection (collection, at);
