-- Version 1 of schema `reembed`: what one database holds for all indexes whose documents live in it.
-- {ext} is the schema of the extension `vector`. Run once, in one transaction, by pgvector/schema.py.

CREATE TABLE reembed.version (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    version integer NOT NULL
);

-- Which EmbeddingIndex (by UID) the rows of an index_key belong to; two clusters may meet in one database.
CREATE TABLE reembed.claim (
    index_key text PRIMARY KEY,
    uid text NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now()
);

-- The order of live writes. CACHE 1: with more, a later change could draw a smaller number.
CREATE SEQUENCE reembed.rev AS bigint CACHE 1;

-- One row a collection; its vectors are in the table of the same name.
CREATE TABLE reembed.collection (
    name text PRIMARY KEY,
    index_key text NOT NULL,
    uid text NOT NULL,
    fingerprint text NOT NULL,
    dimensions integer NOT NULL,
    type text NOT NULL CHECK (type IN ('vector', 'halfvec')),
    metric text NOT NULL CHECK (metric IN ('Cosine', 'InnerProduct', 'Euclidean')),
    state text NOT NULL DEFAULT 'Filling' CHECK (state IN ('Filling', 'Indexed', 'Withdrawn')),
    epoch bigint NOT NULL DEFAULT 0, -- the unbroken stretch of captured changes it was filled under
    id_type text NOT NULL,
    source jsonb NOT NULL, -- schema, table, id and text: what was read, whatever the index says later
    total bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON reembed.collection (index_key);

-- Documents with lower < id <= upper (NULL: no bound). `position` is the last id stored, `token` fences pods.
CREATE TABLE reembed.shard (
    collection text NOT NULL REFERENCES reembed.collection (name) ON DELETE CASCADE,
    n integer NOT NULL,
    lower text,
    upper text,
    position text,
    token bigint NOT NULL DEFAULT 0,
    written bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    done boolean NOT NULL DEFAULT false,
    stats jsonb NOT NULL DEFAULT '{{}}',
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, n)
) WITH (fillfactor = 50); -- updated with every page: room in the page keeps the updates out of the index

CREATE TABLE reembed.rejected (
    collection text NOT NULL REFERENCES reembed.collection (name) ON DELETE CASCADE,
    id text NOT NULL,
    reason text NOT NULL,
    message text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, id)
);

-- Live writes: documents that changed, the collections that lack a change, and the stretches of capture.
CREATE TABLE reembed.dirty (
    index_key text NOT NULL,
    id text NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (index_key, id)
);
CREATE INDEX ON reembed.dirty (index_key, rev);

CREATE TABLE reembed.owed (
    collection text NOT NULL REFERENCES reembed.collection (name) ON DELETE CASCADE,
    id text NOT NULL,
    rev bigint NOT NULL,
    PRIMARY KEY (collection, id)
);

CREATE TABLE reembed.epoch (
    index_key text PRIMARY KEY,
    n bigint NOT NULL
);

-- What answers: collection, fingerprint and generation move as one row.
CREATE TABLE reembed.pointer (
    index_key text PRIMARY KEY,
    collection text NOT NULL REFERENCES reembed.collection (name),
    fingerprint text NOT NULL,
    generation bigint NOT NULL
);

CREATE TABLE reembed.evaluation (
    id text PRIMARY KEY,
    index_key text NOT NULL,
    verdict text NOT NULL,
    queries integer NOT NULL,
    k integer NOT NULL,
    mrr_serving double precision,
    mrr_candidate double precision NOT NULL,
    low double precision,
    high double precision,
    message text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);

-- The k documents nearest to a vector. It raises RE001 instead of answering from a collection that is not of this
-- fingerprint, not indexed, withdrawn or gone. SECURITY DEFINER: who searches needs no right on any table, and a
-- row-level policy that would hide documents from the owner is an error. A document that left the source is not found.
CREATE FUNCTION reembed.search(p_collection text, p_fingerprint text, p_vector text, p_k integer)
RETURNS TABLE (id text, score double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET jit = off
SET hnsw.ef_search = 100
SET hnsw.iterative_scan = 'strict_order'
AS $search$
DECLARE
    c reembed.collection;
    distance text;
    ordering text;
    ids text[];
    distances double precision[];
BEGIN
    SELECT * INTO c FROM reembed.collection WHERE name = p_collection;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'RE001', MESSAGE = format('collection %s does not exist', p_collection);
    ELSIF c.fingerprint <> p_fingerprint THEN
        RAISE EXCEPTION USING ERRCODE = 'RE001', MESSAGE = format(
            'collection %s holds vectors of %s, the query is of %s', p_collection, c.fingerprint, p_fingerprint);
    ELSIF c.state <> 'Indexed' THEN
        RAISE EXCEPTION USING ERRCODE = 'RE001', MESSAGE = format(
            'collection %s answers no queries: it is %s', p_collection, lower(c.state));
    END IF;
    distance := format(
        'c.embedding OPERATOR({ext}.%s) $1::{ext}.%I',
        CASE c.metric WHEN 'Cosine' THEN '<=>' WHEN 'InnerProduct' THEN '<#>' ELSE '<->' END, c.type);
    -- The second ordering is hidden from the index: every document is compared. It is needed only if the index gave up
    -- among vectors whose documents are gone.
    FOREACH ordering IN ARRAY ARRAY[distance, format('(%s) + 0', distance)] LOOP
        EXECUTE format(
            'SELECT array_agg(n.id ORDER BY n.distance, n.id), array_agg(n.distance ORDER BY n.distance, n.id) FROM ('
            'SELECT c.id::text AS id, %1$s AS distance FROM reembed.%2$I c'
            ' WHERE c.embedding IS NOT NULL AND EXISTS (SELECT FROM %3$I.%4$I s WHERE s.%5$I = c.id)'
            ' ORDER BY %6$s LIMIT $2) n',
            distance, c.name, c.source ->> 'schema', c.source ->> 'table', c.source ->> 'id', ordering
        ) INTO ids, distances USING p_vector, p_k;
        EXIT WHEN cardinality(ids) >= p_k;
    END LOOP;
    RETURN QUERY
        SELECT u.id, CASE c.metric WHEN 'Cosine' THEN 1 - u.distance ELSE - u.distance END
        FROM unnest(ids, distances) AS u (id, distance)
        ORDER BY u.distance, u.id;
END
$search$;
REVOKE ALL ON FUNCTION reembed.search(text, text, text, integer) FROM PUBLIC;
