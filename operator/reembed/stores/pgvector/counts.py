"""How far each of an index's collections is: the counts that the store worker reports and agents look at themselves."""

from __future__ import annotations

# As `protocol.Held` and `evidence.Collection` begin.
_COUNTS = """
SELECT c.name, c.fingerprint, c.dimensions, c.state, count(s.n), count(s.n) FILTER (WHERE s.done),
       coalesce(sum(s.written), 0)::bigint, coalesce(sum(s.rejected), 0)::bigint, c.total"""
_OF_INDEX = """
FROM reembed.collection c LEFT JOIN reembed.shard s ON s.collection = c.name
WHERE c.index_key = %s AND c.uid = %s
GROUP BY c.name ORDER BY c.created_at, c.name"""


def counting(more: str) -> str:
    """Return the query for the collections of an index's key and UID, the oldest first: counts, then `more`.

    `more` are columns of `c`, the collection, and of `s`, all its shards.
    """
    return f"{_COUNTS}, {more}{_OF_INDEX}"
