-- Collections whose documents are cut into parts, rows that are parts of documents (collection.source ->> 'group'),
-- vectors in a column of the application's own table, and metadata.

-- Documents that are cut: their fingerprint says how, and their tables have three columns more: the characters of the
-- text that a part is, from `starts` to before `ends`, and in part 0 how many `parts` there are. Part 0 stands for the
-- document: it alone has text_hash and counts as rev, and as a tombstone. Other tables stay as they are, to the byte.
ALTER TABLE reembed.collection ADD COLUMN cut boolean NOT NULL DEFAULT false;

-- `adopted` is the column of the source that holds the vectors; there is no table of the collection's name then.
-- `maintained` says whether the follower keeps it fresh, else the application does.
ALTER TABLE reembed.collection
    ADD COLUMN adopted text,
    ADD COLUMN maintained boolean NOT NULL DEFAULT true;

-- What inspections found, as the API writes it; of each collection the last few.
CREATE TABLE reembed.inspection (
    id text PRIMARY KEY, -- who asked for it, so that one that is repeated is one
    collection text NOT NULL REFERENCES reembed.collection (name) ON DELETE CASCADE,
    at timestamptz NOT NULL,
    report jsonb NOT NULL
);
CREATE INDEX ON reembed.inspection (collection, at);

-- The condition that a caller's filter asks for, over the row `s` of a collection's source; it raises RE002 for what no
-- column, operator or value of a column's type is. Every value is cast here once, so that it fails here and not in the
-- search, and stands in the condition as a literal of its column's type: an index of the application can serve it.
CREATE FUNCTION reembed.condition(p_source jsonb, p_filter jsonb)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $condition$
DECLARE
    name text;
    wanted jsonb;
    operator text;
    operand jsonb;
    kind text;
    element text;
    foreign_type boolean;
    sign text;
    literal text;
    literals text[];
    conditions text[] := ARRAY[]::text[];
BEGIN
    IF jsonb_typeof(p_filter) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'RE002', MESSAGE = 'a filter is a JSON object of columns and what they must be';
    END IF;
    FOR name, wanted IN SELECT * FROM jsonb_each(p_filter) LOOP
        IF NOT coalesce(p_source -> 'metadata', '[]') ? name THEN
            RAISE EXCEPTION USING ERRCODE = 'RE002', MESSAGE = format(
                'filter names %s, and spec.source.metadata of the index lists %s', to_json(left(name, 80)),
                CASE WHEN jsonb_array_length(coalesce(p_source -> 'metadata', '[]')) = 0 THEN 'no columns'
                     ELSE p_source ->> 'metadata' END);
        END IF;
        -- Without a length (typmod -1): a value that is longer is no value of the column, and must not be cut until it is.
        -- A domain is compared as what it is of.
        SELECT format_type(coalesce(nullif(t.typbasetype, 0), t.oid), -1),
               CASE WHEN coalesce(b.typcategory, t.typcategory) = 'A'
                    THEN format_type(coalesce(b.typelem, t.typelem), -1) END,
               coalesce(b.typnamespace, t.typnamespace) <> 'pg_catalog'::regnamespace INTO kind, element, foreign_type
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype
        WHERE n.nspname = p_source ->> 'schema' AND c.relname = p_source ->> 'table' AND a.attname = name
          AND NOT a.attisdropped;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'RE002', MESSAGE = format('column %s is gone from the source', to_json(name));
        ELSIF foreign_type THEN
            -- Its equality may be another's: citext would be compared as text.
            RAISE EXCEPTION USING ERRCODE = 'RE002', MESSAGE = format(
                'filter names %s, whose type %s is none of PostgreSQL''s own', to_json(name), kind);
        END IF;
        -- A value alone is to be equal, a list one of its values.
        IF jsonb_typeof(wanted) = 'array' THEN
            wanted := jsonb_build_object('in', wanted);
        ELSIF jsonb_typeof(wanted) <> 'object' THEN
            wanted := jsonb_build_object('eq', wanted);
        END IF;
        FOR operator, operand IN SELECT * FROM jsonb_each(wanted) LOOP
            IF operator NOT IN ('eq', 'ne', 'lt', 'lte', 'gt', 'gte', 'in', 'contains')
               OR (operator = 'in') <> (jsonb_typeof(operand) = 'array')
               OR (operator = 'in' AND (element IS NOT NULL OR operand @> '[null]'))
               OR jsonb_typeof(operand) = 'object'
               OR (jsonb_typeof(operand) = 'null' AND operator NOT IN ('eq', 'ne'))
               OR (operator = 'contains' AND element IS NULL) THEN
                RAISE EXCEPTION USING ERRCODE = 'RE002', MESSAGE = format(
                    'filter of %s has %s %s; known are eq, ne, lt, lte, gt, gte with a value (eq and ne with null too), '
                    'in with a list without null for a column that is no array, and contains with a value for one that is', to_json(name),
                    to_json(left(operator, 80)), left(operand::text, 80));
            END IF;
            IF jsonb_typeof(operand) = 'null' THEN
                conditions := conditions || format(
                    's.%I IS %s NULL', name, CASE operator WHEN 'eq' THEN '' ELSE 'NOT' END);
                CONTINUE;
            END IF;
            sign := CASE operator WHEN 'lt' THEN '<' WHEN 'lte' THEN '<=' WHEN 'gt' THEN '>' WHEN 'gte' THEN '>=' END;
            literals := ARRAY[]::text[];
            FOR literal IN
                SELECT u.value #>> '{{}}' FROM jsonb_array_elements(
                    CASE operator WHEN 'in' THEN operand ELSE jsonb_build_array(operand) END) u
            LOOP
                IF length(literal) > 1000 THEN
                    RAISE EXCEPTION USING ERRCODE = 'RE002', MESSAGE = format(
                        'filter of %s has a value of more than 1000 characters', to_json(name));
                END IF;
                BEGIN
                    EXECUTE format('SELECT %1$L::%2$s %3$s %1$L::%2$s', literal,
                        CASE operator WHEN 'contains' THEN element ELSE kind END, coalesce(sign, '='));
                EXCEPTION
                    WHEN undefined_function THEN
                        RAISE EXCEPTION USING ERRCODE = 'RE002', MESSAGE = format(
                            'filter names %s, whose type %s cannot be compared so', to_json(name), kind);
                    WHEN OTHERS THEN
                        -- Whatever a value can cause is the caller's fault; the server's own troubles are not.
                        IF left(SQLSTATE, 2) IN ('40', '53', '55', '57', '58', 'XX') THEN
                            RAISE;
                        END IF;
                        RAISE EXCEPTION USING ERRCODE = 'RE002', MESSAGE = format(
                            'filter of %s has the value %s, which is no %s', to_json(name),
                            coalesce(to_json(left(literal, 80))::text, 'null'), kind);
                END;
                literals := literals || format(
                    '%L::%s', literal, CASE operator WHEN 'contains' THEN element ELSE kind END);
            END LOOP;
            conditions := conditions || CASE operator
                WHEN 'in' THEN CASE WHEN literals = '{{}}' THEN 'false'
                    ELSE format('s.%I = ANY (ARRAY[%s]::%s[])', name, array_to_string(literals, ','), kind) END
                WHEN 'contains' THEN format('%s = ANY (s.%I)', literals[1], name)
                -- What is not known differs from every value.
                WHEN 'ne' THEN format('s.%I IS DISTINCT FROM %s', name, literals[1])
                ELSE format('s.%I %s %s', name, coalesce(sign, '='), literals[1]) END;
        END LOOP;
    END LOOP;
    RETURN CASE WHEN conditions = '{{}}' THEN 'true' ELSE array_to_string(conditions, ' AND ') END;
END
$condition$;
REVOKE ALL ON FUNCTION reembed.condition(jsonb, jsonb) FROM PUBLIC;

-- The k documents nearest to a vector, within a filter, with their metadata, and of documents that are cut which part is
-- the nearest; a document is as near as that. Where rows are grouped (source ->> 'group'), a document is a group, named
-- by it, or a row without one; it is as near as its nearest row, which is told as `row_id` and whose metadata it has.
-- This is the only body: the other functions ask it. It raises RE001 instead of answering from a collection that is not
-- of this fingerprint, not indexed, withdrawn or gone. SECURITY DEFINER: who searches needs no right on any table, and a
-- row-level policy that would hide documents from the owner is an error. A document whose row left the source or its
-- filter is not found, before the follower knows.
CREATE FUNCTION reembed.find(
    p_collection text, p_fingerprint text, p_vector {ext}.vector, p_k integer, p_filter jsonb DEFAULT NULL)
RETURNS TABLE (id text, score double precision, starts integer, ends integer, metadata jsonb, row_id text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET jit = off
SET hnsw.ef_search = 100
SET hnsw.iterative_scan = 'strict_order'
SET ivfflat.probes = 32 -- an adopted column may have such an index; the default of 1 finds half
SET ivfflat.iterative_scan = 'relaxed_order'
AS $search$
DECLARE
    c reembed.collection;
    wanted text := 'true';
    key text;
    embedding text;
    distance text;
    vectors text;
    there text;
    grouped boolean;
    document text := 'm.id';
    ids text[];
    row_ids text[];
    distances double precision[];
    began integer[];
    ended integer[];
    datas jsonb[];
    ordering text;
    asked bigint;
    fetched bigint;
BEGIN
    IF p_vector IS NULL OR p_k IS NULL OR p_k NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a search needs a vector, and k from 1 to 10000';
    END IF;
    SELECT * INTO c FROM reembed.collection WHERE name = p_collection;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'RE001', MESSAGE = format('collection %s does not exist', p_collection);
    ELSIF c.fingerprint IS DISTINCT FROM p_fingerprint THEN
        RAISE EXCEPTION USING ERRCODE = 'RE001', MESSAGE = format(
            'collection %s holds vectors of %s, the query is of %s', p_collection, c.fingerprint, p_fingerprint);
    ELSIF c.state <> 'Indexed' THEN
        RAISE EXCEPTION USING ERRCODE = 'RE001', MESSAGE = format(
            'collection %s answers no queries: it is %s', p_collection, lower(c.state));
    END IF;
    IF p_filter IS NOT NULL THEN
        wanted := reembed.condition(c.source, p_filter);
    END IF;
    IF c.adopted IS NULL THEN
        vectors := format('reembed.%I c', c.name);
        key := 'c.id';
        embedding := 'c.embedding';
    ELSE
        vectors := format('%I.%I s', c.source ->> 'schema', c.source ->> 'table');
        key := format('s.%I', c.source ->> 'id');
        embedding := format('s.%I', c.adopted);
    END IF;
    grouped := c.source ->> 'group' IS NOT NULL;
    IF grouped THEN
        -- Of the rows that were found alone, each by its key: a join would be planned for a share of the whole table.
        document := format('coalesce((SELECT s.%I::text FROM %I.%I s WHERE s.%I = m.id::%s), m.id)',
            c.source ->> 'group', c.source ->> 'schema', c.source ->> 'table', c.source ->> 'id', c.id_type);
    END IF;
    -- A halfvec is made of the vector here, once, rounded as from text.
    distance := format(
        '%s OPERATOR({ext}.%s) $1::{ext}.%I', embedding,
        CASE c.metric WHEN 'Cosine' THEN '<=>' WHEN 'InnerProduct' THEN '<#>' ELSE '<->' END, c.type);
    FOR attempt IN 1..2 LOOP
        BEGIN
            -- The second time the ordering is hidden from the vector index, and every document that the filter leaves is
            -- compared. It is needed only if the index gave up among vectors whose documents are gone or filtered.
            asked := 4 * p_k::bigint;
            FOR thorough IN 0..1 LOOP
                there := reembed.present(c, wanted, within => attempt = 2, first => thorough = 0);
                ordering := CASE thorough WHEN 0 THEN distance ELSE format('(%s) + 0', distance) END;
                IF NOT c.cut AND NOT grouped THEN
                    EXECUTE format(
                        'SELECT array_agg(n.id ORDER BY n.distance, n.id),'
                        ' array_agg(n.distance ORDER BY n.distance, n.id)'
                        ' FROM (SELECT %1$s::text AS id, %2$s AS distance FROM %3$s'
                        ' WHERE %4$s IS NOT NULL AND %5$s ORDER BY %6$s LIMIT $2) n',
                        key, distance, vectors, embedding, there, ordering
                    ) INTO ids, distances USING p_vector, p_k;
                    EXIT WHEN cardinality(ids) >= p_k;
                    CONTINUE;
                END IF;
                -- Parts, or rows, are asked for until they are of k documents: more and more of them, since nobody
                -- knows how many of the nearest are of one document. Where all are compared each round costs as much.
                LOOP
                    EXECUTE format(
                        'SELECT array_agg(b.document), array_agg(b.distance), array_agg(b.starts), array_agg(b.ends),'
                        ' array_agg(b.id), coalesce(max(b.fetched), 0) FROM (SELECT * FROM ('
                        'SELECT DISTINCT ON (n.document) n.*, count(*) OVER () AS fetched'
                        ' FROM (SELECT m.*, %7$s AS document FROM (SELECT %1$s::text AS id, %2$s AS distance, %8$s'
                        ' FROM %3$s WHERE %4$s IS NOT NULL AND %5$s ORDER BY %6$s LIMIT $2) m) n'
                        ' ORDER BY n.document, n.distance, n.id, n.part) a ORDER BY a.distance, a.document) b',
                        key, distance, vectors, embedding, there, ordering, document,
                        CASE WHEN c.cut THEN 'c.part, c.starts, c.ends'
                             ELSE '0 AS part, NULL::integer AS starts, NULL::integer AS ends' END
                    ) INTO ids, distances, began, ended, row_ids, fetched USING p_vector, asked;
                    EXIT WHEN cardinality(ids) >= p_k OR fetched < asked;
                    asked := CASE thorough WHEN 0 THEN 4 ELSE 64 END * asked;
                END LOOP;
                EXIT WHEN cardinality(ids) >= p_k;
            END LOOP;
            EXIT;
        EXCEPTION WHEN OTHERS THEN
            -- A row for which the index's filter fails is not found, and keeps no other from being found.
            IF attempt = 2 OR c.source ->> 'filter' IS NULL
               OR left(SQLSTATE, 2) NOT IN ('21', '22', '23', '2F', '38', '39', '54', 'P0') THEN
                RAISE;
            END IF;
        END;
    END LOOP;
    datas := reembed.metadata(c, (CASE WHEN grouped THEN row_ids ELSE ids END)[:p_k]);
    RETURN QUERY
        SELECT u.id, CASE c.metric WHEN 'Cosine' THEN 1 - u.distance ELSE - u.distance END, u.starts, u.ends, u.metadata,
               CASE WHEN grouped THEN u.row_id END
        FROM unnest(ids, distances, began, ended, datas, row_ids) AS u (id, distance, starts, ends, metadata, row_id)
        ORDER BY u.distance, u.id LIMIT p_k;
END
$search$;
REVOKE ALL ON FUNCTION reembed.find(text, text, {ext}.vector, integer, jsonb) FROM PUBLIC;

-- The metadata of documents in their order, NULL where the index lists no columns. A column that is gone is left out, and a
-- row whose values cannot be written as JSON (a text within json that PostgreSQL cannot hold) has none: neither keeps a
-- search from answering.
CREATE FUNCTION reembed.metadata(p_collection reembed.collection, p_ids text[])
RETURNS jsonb[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $metadata$
DECLARE
    c reembed.collection := p_collection;
    pairs text;
    query text;
    found jsonb;
    datas jsonb[] := ARRAY[]::jsonb[];
BEGIN
    IF jsonb_array_length(coalesce(c.source -> 'metadata', '[]')) = 0 THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(format('%L, s.%I', a.attname, a.attname), ', ' ORDER BY a.attnum) INTO pairs
    FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid JOIN pg_namespace n ON n.oid = r.relnamespace
    WHERE n.nspname = c.source ->> 'schema' AND r.relname = c.source ->> 'table' AND NOT a.attisdropped
      AND c.source -> 'metadata' ? a.attname;
    query := format('SELECT jsonb_build_object(%s) FROM %I.%I s WHERE s.%I = ',
        coalesce(pairs, ''), c.source ->> 'schema', c.source ->> 'table', c.source ->> 'id');
    BEGIN
        EXECUTE format('SELECT array_agg((%s u.id::%s) ORDER BY u.n) FROM unnest($1) WITH ORDINALITY AS u (id, n)',
            query, c.id_type) INTO datas USING p_ids;
        RETURN datas;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
        datas := ARRAY[]::jsonb[];
    END;
    FOR place IN 1..cardinality(p_ids) LOOP
        BEGIN
            EXECUTE format('%s $1::%s', query, c.id_type) INTO found USING p_ids[place];
        EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
            found := NULL;
        END;
        datas := datas || ARRAY[found];
    END LOOP;
    RETURN datas;
END
$metadata$;
REVOKE ALL ON FUNCTION reembed.metadata(reembed.collection, text[]) FROM PUBLIC;

-- The condition by which a collection's vector is of a document that is there and wanted. `within`: the index's filter
-- fails for some row, and is tried row by row. `first`: rows are evaluated one by one for the nearest alone (OFFSET 0);
-- were it a join, the planner would take it for one that most vectors fail, and order all of them. The second time it
-- may choose, so that a filter that leaves few documents finds them by the application's own index.
CREATE FUNCTION reembed.present(p_collection reembed.collection, p_wanted text, within boolean, first boolean)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $present$
DECLARE
    c reembed.collection := p_collection;
    row_filter text := coalesce(c.source ->> 'filter', 'true');
    relation text := format('%I.%I s', c.source ->> 'schema', c.source ->> 'table');
    key text := format('s.%I', c.source ->> 'id');
    inside text := 'true';
BEGIN
    IF within THEN
        inside := format('EXISTS (SELECT FROM reembed.attempt(%L, %s::text) a WHERE a.failed IS NULL)', format(
            'SELECT NULL::text, NULL::text FROM (SELECT s.* FROM %s WHERE %s = $1::%s OFFSET 0) AS reembed_row WHERE (%s)',
            relation, key, c.id_type, row_filter), CASE WHEN c.adopted IS NULL THEN 'c.id' ELSE key END);
    ELSIF c.source ->> 'filter' IS NOT NULL AND c.adopted IS NOT NULL THEN
        inside := format('(SELECT (%s) FROM (SELECT s.*) AS reembed_row)', row_filter);
    END IF;
    IF c.adopted IS NOT NULL THEN
        -- A column without declared dimensions may hold others; they are of no vector of this model. Nor has a vector of
        -- zeros an angle to any: its distance would be NaN.
        RETURN format('%3$s IS NOT NULL AND {ext}.vector_dims(s.%1$I) = %2$s AND %4$s AND %5$s AND (%6$s)', c.adopted,
            c.dimensions, key, CASE c.metric WHEN 'Cosine' THEN format('{ext}.%s(s.%I) > 0',
                CASE c.type WHEN 'vector' THEN 'vector_norm' ELSE 'l2_norm' END, c.adopted) ELSE 'true' END,
            inside, p_wanted);
    ELSIF within OR c.source ->> 'filter' IS NULL THEN
        -- Whoever owns the index may have rights on some columns alone: no other is named.
        RETURN format('EXISTS (SELECT FROM %s WHERE %s = c.id AND (%s)%s) AND %s', relation, key, p_wanted,
            CASE WHEN first AND p_wanted <> 'true' THEN ' OFFSET 0' ELSE '' END, inside);
    END IF;
    RETURN format(
        'EXISTS (SELECT FROM (SELECT s.* FROM %1$s WHERE %2$s = c.id AND (%3$s)%4$s) AS reembed_row WHERE (%5$s))',
        relation, key, p_wanted, CASE WHEN first OR c.source ->> 'filter' IS NOT NULL THEN ' OFFSET 0' ELSE '' END,
        row_filter);
END
$present$;
REVOKE ALL ON FUNCTION reembed.present(reembed.collection, text, boolean, boolean) FROM PUBLIC;

-- For gateways of before, which have it in prepared statements, and for who asks a collection by its name.
CREATE OR REPLACE FUNCTION reembed.nearest(p_collection text, p_fingerprint text, p_vector {ext}.vector, p_k integer)
RETURNS TABLE (id text, score double precision)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $search$
    SELECT f.id, f.score FROM reembed.find(p_collection, p_fingerprint, p_vector, p_k, NULL) f
$search$;
REVOKE ALL ON FUNCTION reembed.nearest(text, text, {ext}.vector, integer) FROM PUBLIC;

CREATE OR REPLACE FUNCTION reembed.search(p_collection text, p_fingerprint text, p_vector text, p_k integer)
RETURNS TABLE (id text, score double precision)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $search$
    SELECT f.id, f.score FROM reembed.find(p_collection, p_fingerprint, p_vector::{ext}.vector, p_k, NULL) f
$search$;

-- For applications that search by SQL: the k documents nearest to a vector in what answers for an index, which is
-- NAMESPACE/NAME of its EmbeddingIndex. It raises RE001 if the vector is of another model than what answers: then it is
-- to be embedded again, by the model that POST /v1/embeddings of the gateway asks.
CREATE FUNCTION reembed.search_index(
    p_index text, p_fingerprint text, p_vector {ext}.vector, p_k integer DEFAULT 10, p_filter jsonb DEFAULT NULL)
RETURNS TABLE (id text, score double precision, starts integer, ends integer, metadata jsonb, row_id text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $search$
DECLARE
    p reembed.pointer;
BEGIN
    SELECT * INTO p FROM reembed.pointer WHERE index_key = p_index;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'RE001', MESSAGE = format(
            'nothing answers for index %s: it is of another database, or its first migration has not ended', p_index);
    ELSIF p.fingerprint IS DISTINCT FROM p_fingerprint THEN
        RAISE EXCEPTION USING ERRCODE = 'RE001', MESSAGE = format(
            'index %s is answered by vectors of %s, the query is of %s: embed it again with the model that answers',
            p_index, p.fingerprint, p_fingerprint);
    END IF;
    RETURN QUERY SELECT f.* FROM reembed.find(p.collection, p_fingerprint, p_vector, p_k, p_filter) f;
END
$search$;
REVOKE ALL ON FUNCTION reembed.search_index(text, text, {ext}.vector, integer, jsonb) FROM PUBLIC;

-- Which routing the gateways of an index with a panel accepted last, and the newest members who had certified one of it;
-- `panel` is the digest of the first of them. Only who may call the functions below writes it: who fills collections and
-- moves the pointer does so at the operator's word, and what gateways believe must not depend on that.
CREATE TABLE reembed.accepted (
    index_key text NOT NULL,
    uid text NOT NULL, -- epochs are ordered within the life of one object
    epoch bigint NOT NULL,
    routing jsonb NOT NULL,
    panel text NOT NULL,
    membership bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (index_key, uid)
);

-- The row and the index's pointer, NULL where there is none.
CREATE FUNCTION reembed.accepted_of(p_index text, p_uid text)
RETURNS TABLE (
    epoch bigint, routing jsonb, panel text, membership bigint, collection text, fingerprint text, generation bigint)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $accepted$
    SELECT a.epoch, a.routing, a.panel, a.membership, p.collection, p.fingerprint, p.generation
    FROM (SELECT) one LEFT JOIN reembed.accepted a ON a.index_key = p_index AND a.uid = p_uid
    LEFT JOIN reembed.pointer p ON p.index_key = p_index
$accepted$;
REVOKE ALL ON FUNCTION reembed.accepted_of(text, text) FROM PUBLIC;

-- Writes what is accepted unless the row has this epoch or a higher one, and returns the row as it is then. Of members of
-- one panel the newest ever seen stay.
CREATE FUNCTION reembed.accept(
    p_index text, p_uid text, p_epoch bigint, p_routing jsonb, p_panel text, p_membership bigint)
RETURNS SETOF reembed.accepted
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $accept$
BEGIN
    INSERT INTO reembed.accepted AS a (index_key, uid, epoch, routing, panel, membership)
    VALUES (p_index, p_uid, p_epoch, p_routing, p_panel, p_membership)
    ON CONFLICT (index_key, uid) DO UPDATE
    SET epoch = excluded.epoch, routing = excluded.routing, panel = excluded.panel, at = now(),
        membership = CASE WHEN a.panel = excluded.panel
            THEN greatest(a.membership, excluded.membership) ELSE excluded.membership END
    WHERE a.epoch < excluded.epoch;
    RETURN QUERY SELECT * FROM reembed.accepted a WHERE a.index_key = p_index AND a.uid = p_uid;
END
$accept$;
REVOKE ALL ON FUNCTION reembed.accept(text, text, bigint, jsonb, text, bigint) FROM PUBLIC;
