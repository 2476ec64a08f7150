-- Documents whose text changed, of adopted columns that the application keeps: a few of them at a time, so that whether it
-- does keep the column can be looked at. `at` is when the worker saw the last change.
CREATE TABLE reembed.watched (
    collection text NOT NULL REFERENCES reembed.collection (name) ON DELETE CASCADE,
    id text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (collection, id)
);
CREATE INDEX ON reembed.watched (collection, at);
