-- Collections whose documents are cut into parts. Their fingerprint says how, and their tables have two columns more: the
-- characters of the text that a part is, from `starts` to before `ends`. Part 0 stands for the document: it alone has
-- text_hash and counts as rev, and as a tombstone. Tables that are not cut stay as they are, to the byte.
ALTER TABLE reembed.collection ADD COLUMN cut boolean NOT NULL DEFAULT false;

-- The search of step 5, which also says which part of a document is the nearest one; of documents that are not cut,
-- nothing. This is the only body: reembed.nearest and reembed.search ask it. What it returns stays as it is.
CREATE FUNCTION reembed.passages(p_collection text, p_fingerprint text, p_vector {ext}.vector, p_k integer)
RETURNS TABLE (id text, score double precision, starts integer, ends integer)
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
    began integer[];
    ended integer[];
    wanted bigint;
    fetched bigint;
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
                IF NOT c.cut THEN
                    EXECUTE format(
                        'SELECT array_agg(n.id ORDER BY n.distance, n.id),'
                        ' array_agg(n.distance ORDER BY n.distance, n.id)'
                        ' FROM (SELECT c.id::text AS id, %1$s AS distance FROM reembed.%2$I c'
                        ' WHERE c.embedding IS NOT NULL AND %3$s ORDER BY %4$s LIMIT $2) n',
                        distance, c.name, there, ordering
                    ) INTO ids, distances USING p_vector, p_k;
                    EXIT WHEN cardinality(ids) >= p_k;
                    CONTINUE;
                END IF;
                -- Parts are asked for until they are of k documents: more and more of them, since nobody knows how many
                -- of the nearest are of one document. A document is as near as its nearest part.
                wanted := 4 * p_k::bigint;
                LOOP
                    EXECUTE format(
                        'SELECT array_agg(b.id ORDER BY b.distance, b.id),'
                        ' array_agg(b.distance ORDER BY b.distance, b.id),'
                        ' array_agg(b.starts ORDER BY b.distance, b.id), array_agg(b.ends ORDER BY b.distance, b.id),'
                        ' coalesce(max(b.fetched), 0) FROM (SELECT DISTINCT ON (n.id) n.*, count(*) OVER () AS fetched'
                        ' FROM (SELECT c.id::text AS id, c.part, %1$s AS distance, c.starts, c.ends'
                        ' FROM reembed.%2$I c WHERE c.embedding IS NOT NULL AND %3$s ORDER BY %4$s LIMIT $2) n'
                        ' ORDER BY n.id, n.distance, n.part) b',
                        distance, c.name, there, ordering
                    ) INTO ids, distances, began, ended, fetched USING p_vector, wanted;
                    EXIT WHEN cardinality(ids) >= p_k OR fetched < wanted;
                    wanted := 4 * wanted;
                END LOOP;
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
        SELECT u.id, CASE c.metric WHEN 'Cosine' THEN 1 - u.distance ELSE - u.distance END, u.starts, u.ends
        FROM unnest(ids, distances, began, ended) AS u (id, distance, starts, ends)
        ORDER BY u.distance, u.id LIMIT p_k;
END
$search$;
REVOKE ALL ON FUNCTION reembed.passages(text, text, {ext}.vector, integer) FROM PUBLIC;

-- For gateways of before, which have it in prepared statements.
CREATE OR REPLACE FUNCTION reembed.nearest(p_collection text, p_fingerprint text, p_vector {ext}.vector, p_k integer)
RETURNS TABLE (id text, score double precision)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $search$
    SELECT n.id, n.score FROM reembed.passages(p_collection, p_fingerprint, p_vector, p_k) n
$search$;

CREATE OR REPLACE FUNCTION reembed.search(p_collection text, p_fingerprint text, p_vector text, p_k integer)
RETURNS TABLE (id text, score double precision)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $search$
    SELECT n.id, n.score FROM reembed.passages(p_collection, p_fingerprint, p_vector::{ext}.vector, p_k) n
$search$;
