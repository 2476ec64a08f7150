"""Which arm answers a caller: sticky, and a larger share always contains the smaller one.

Called by the gateway once per request with its snapshot of the routing. A caller's bucket depends on the candidate's
collection and on the caller's key alone, never on the weight: whoever is on the candidate at 10 % is there at 50 %
and at 100 %, a caller sees one model until a step takes it across, and the next migration draws other callers first.
Nothing here knows whether an arm works; falling back is the gateway's business.
"""

from __future__ import annotations

import hashlib

from reembed.core.model import Arm, Routing

BUCKETS = 10_000
_BUCKETS_PER_PERCENT = BUCKETS // 100


def bucket(collection: str, caller_key: str) -> int:
    """Return the caller's place, 0 to BUCKETS - 1, in the order in which callers move to `collection`."""
    # JSON may carry a lone surrogate, which UTF-8 has no bytes for; a strange key must not fail a query.
    text = f"{collection}\n{caller_key}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") % BUCKETS


def shadowed(routing: Routing, caller_key: str, query: str) -> bool:
    """Return whether a query is one of the sample that is put to both sides.

    The salt is another one than that of the callers' places, so that the sample is drawn alike from both sides'
    callers, and the next migration draws another one. The query counts beside the caller: else some callers would have
    all of theirs in it, and the others none.
    """
    if routing.candidate is None or routing.serving is None or not routing.shadow:
        return False
    return bucket(f"shadow {routing.candidate.collection}", f"{caller_key}\n{query}") < routing.shadow * BUCKETS


def choose(routing: Routing, caller_key: str) -> Arm | None:
    """Return the arm that answers this caller, None if nothing answers it yet (an index before its first vectors)."""
    candidate = routing.candidate
    if candidate is None or bucket(candidate.collection, caller_key) >= routing.weight * _BUCKETS_PER_PERCENT:
        return routing.serving
    return candidate
