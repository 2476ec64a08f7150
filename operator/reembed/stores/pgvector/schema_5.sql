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
