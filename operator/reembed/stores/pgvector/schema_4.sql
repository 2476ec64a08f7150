-- The search of step 1 for a vector that comes in binary, which gateways send: a tenth of the bytes of its text, and no
-- number is written or read. It has a name of its own, since a parameter whose type is left to the server must find one
-- function only. Its promises are those of step 1, and its body is the only one: reembed.search reads a text and asks it.
-- What it returns stays as it is, whatever a later step does within: gateways have it in prepared statements.
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
REVOKE ALL ON FUNCTION reembed.nearest(text, text, {ext}.vector, integer) FROM PUBLIC;

-- For applications that search by SQL. Who may call it needs no right on the other.
CREATE OR REPLACE FUNCTION reembed.search(p_collection text, p_fingerprint text, p_vector text, p_k integer)
RETURNS TABLE (id text, score double precision)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $search$
    SELECT n.id, n.score FROM reembed.nearest(p_collection, p_fingerprint, p_vector::{ext}.vector, p_k) n
$search$;
