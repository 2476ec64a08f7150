-- Texts that are expressions over a row, and rows that are no documents (collection.source ->> 'text_sql', 'filter').

-- One document of the source by its id, or the SQLSTATE with which its expression failed: one row must not stop others.
-- STABLE, so that it sees what the statement sees that calls it. `p_query` is written by pgvector/rows.py.
CREATE FUNCTION reembed.attempt(p_query text, p_id text)
RETURNS TABLE (document text, failed text)
LANGUAGE plpgsql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $attempt$
BEGIN
    RETURN QUERY EXECUTE p_query USING p_id;
EXCEPTION WHEN OTHERS THEN
    -- What values of a row can cause; all else fails every row, and is told.
    IF left(SQLSTATE, 2) NOT IN ('21', '22', '23', '2F', '38', '39', '54', 'P0') THEN
        RAISE;
    END IF;
    document := NULL;
    failed := SQLSTATE;
    RETURN NEXT;
END
$attempt$;
REVOKE ALL ON FUNCTION reembed.attempt(text, text) FROM PUBLIC;

-- The search of step 1 for a vector that comes in binary, which gateways send: a tenth of the bytes of its text, and no
-- number is written or read. It has a name of its own, since a parameter whose type is left to the server must find one
-- function only. Its body is the only one: reembed.search reads a text and asks it. What it returns stays as it is,
-- whatever a later step does within: gateways have it in prepared statements. A document whose row left the source or its filter is not found, before the follower knows.
CREATE FUNCTION reembed.nearest(p_collection text, p_fingerprint text, p_vector {ext}.vector, p_k integer)
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
    there text;
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
    -- A halfvec is made of the vector here, once, rounded as from text.
    distance := format(
        'c.embedding OPERATOR({ext}.%s) $1::{ext}.%I',
        CASE c.metric WHEN 'Cosine' THEN '<=>' WHEN 'InnerProduct' THEN '<#>' ELSE '<->' END, c.type);
    -- OFFSET 0: a filter is evaluated for the nearest alone, one by one. Were it a join, the planner would take it for one
    -- that most vectors fail, and order all of them; nearly all of those that are here satisfy it.
    there := CASE WHEN c.source ->> 'filter' IS NULL
        THEN format('EXISTS (SELECT FROM %I.%I s WHERE s.%I = c.id)',
            c.source ->> 'schema', c.source ->> 'table', c.source ->> 'id')
        ELSE format('EXISTS (SELECT FROM (SELECT s.* FROM %I.%I s WHERE s.%I = c.id OFFSET 0) AS reembed_row WHERE (%s))',
            c.source ->> 'schema', c.source ->> 'table', c.source ->> 'id', c.source ->> 'filter') END;
    FOR attempt IN 1..2 LOOP
        BEGIN
            -- The second ordering is hidden from the index: every document is compared. It is needed only if the index
            -- gave up among vectors whose documents are gone.
            FOREACH ordering IN ARRAY ARRAY[distance, format('(%s) + 0', distance)] LOOP
                EXECUTE format(
                    'SELECT array_agg(n.id ORDER BY n.distance, n.id), array_agg(n.distance ORDER BY n.distance, n.id)'
                    ' FROM (SELECT c.id::text AS id, %1$s AS distance FROM reembed.%2$I c'
                    ' WHERE c.embedding IS NOT NULL AND %3$s ORDER BY %4$s LIMIT $2) n',
                    distance, c.name, there, ordering
                ) INTO ids, distances USING p_vector, p_k;
                EXIT WHEN cardinality(ids) >= p_k;
            END LOOP;
            EXIT;
        EXCEPTION WHEN OTHERS THEN
            IF attempt = 2 OR c.source ->> 'filter' IS NULL
               OR left(SQLSTATE, 2) NOT IN ('21', '22', '23', '2F', '38', '39', '54', 'P0') THEN
                RAISE;
            END IF;
            -- A row for which the filter fails is not found, and keeps no other from being found.
            there := format(
                'EXISTS (SELECT FROM reembed.attempt(%L, c.id::text) a WHERE a.failed IS NULL)', format(
                    'SELECT NULL::text, NULL::text FROM (SELECT s.* FROM %I.%I s WHERE s.%I = $1::%s OFFSET 0)'
                    ' AS reembed_row WHERE (%s)',
                    c.source ->> 'schema', c.source ->> 'table', c.source ->> 'id', c.id_type, c.source ->> 'filter'));
        END;
    END LOOP;
    RETURN QUERY
        SELECT u.id, CASE c.metric WHEN 'Cosine' THEN 1 - u.distance ELSE - u.distance END
        FROM unnest(ids, distances) AS u (id, distance)
        ORDER BY u.distance, u.id;
END
$search$;
REVOKE ALL ON FUNCTION reembed.nearest(text, text, {ext}.vector, integer) FROM PUBLIC;

-- For applications that search by SQL. Who may call it needs no right on the other.
CREATE OR REPLACE FUNCTION reembed.search(p_collection text, p_fingerprint text, p_vector text, p_k integer)
RETURNS TABLE (id text, score double precision)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $search$
    SELECT n.id, n.score FROM reembed.nearest(p_collection, p_fingerprint, p_vector::{ext}.vector, p_k) n
$search$;
