"""How much a backfill asks for at a time: less while the store or callers' queries suffer, more again when they do not.

Asked by a backfill pod about once a second with what it measured since it asked last: how long its commits took, and
p95 of callers' queries. Both are compared with what is usual for them, since nobody knows beforehand what a commit
takes on a given disk. What is usual is the least of what was seen, which rises slowly: a store that stays slow whatever
the backfill does is the store that there is, and the backfill must not crawl beside it for ever.

The number of requests under way grows by one and is halved, between 1 and 16, as TCP shares a line (AIMD). One request
after the other may still keep a small embedder busy, so below one there are rests between them: at a half as long as
the request took, at an eighth seven times as long. Never is less asked for: the backfill does not stand still. Who
suffers even then suffers for another reason, which is soon taken as usual: else a backfill on a machine that became
slow in its first minute would take eight times as long for an hour, and help nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MOST = 16.0
LEAST = 1 / 8
# Enough for a small embedder from the beginning; what is usual for queries is learned before all 16 are under way.
FIRST = 4.0
# Above so many times what is usual, and so much more than that, somebody suffers: less is the noise of one machine.
_STORE_FACTOR, _STORE_SECONDS = 3.0, 0.1
_QUERIES_FACTOR, _QUERIES_SECONDS = 2.0, 0.025
# What is usual doubles in some 70 seconds, and in 24 where the least is asked for; nothing is usual that no machine
# can do. Time without a judgement counts up to the longest rest.
_RISES, _RISES_AT_LEAST = 1.01, 1.03
_LONGEST_SECONDS = 60.0
_SHORTEST = 0.001


@dataclass(frozen=True, slots=True)
class Reading:
    """Seconds, measured since the last judgement, which was `ago` seconds ago; None says nothing (yet)."""

    commit: float | None = None
    queries: float | None = None  # p95 of callers, 0 where hardly anybody asks
    ago: float = 1.0


@dataclass(frozen=True, slots=True)
class Throttle:
    """What holds from now on. `by` names what suffered at the last judgement: `store`, `queries` or None."""

    limit: float = FIRST
    by: str | None = None
    usual_commit: float | None = None
    usual_queries: float | None = None

    @property
    def under_way(self) -> int:
        """Return how many requests may be under way."""
        return max(1, int(self.limit))

    def rest(self, seconds: float) -> float:
        """Return for how long nothing is asked after a request that took so many seconds."""
        return seconds * max(0.0, 1 / self.limit - 1)

    def judged(self, reading: Reading) -> Throttle:
        """Return what holds after a reading; one that says nothing is no reason to ask for less, or for more."""
        usual_commit = _usual(self.usual_commit, reading.commit, self._rise("store", reading.ago))
        usual_queries = _usual(self.usual_queries, reading.queries, self._rise("queries", reading.ago))
        by = None
        if _suffers(reading.commit, usual_commit, _STORE_FACTOR, _STORE_SECONDS):
            by = "store"
        elif _suffers(reading.queries, usual_queries, _QUERIES_FACTOR, _QUERIES_SECONDS):
            by = "queries"
        known = replace(self, usual_commit=usual_commit, usual_queries=usual_queries)
        if by is not None:
            return replace(known, limit=max(LEAST, self.limit / 2), by=by)
        if reading.commit is None or (self.by == "queries" and reading.queries is None):
            return known
        return replace(known, limit=min(MOST, _more(self.limit)), by=None)

    def _rise(self, by: str, seconds: float) -> float:
        rises = _RISES_AT_LEAST if self.limit == LEAST and self.by == by else _RISES
        return float(rises ** min(seconds, _LONGEST_SECONDS))


def _more(limit: float) -> float:
    # From an eighth one more at once would be eight times as much.
    return limit + 1 if limit >= 1 else limit * 2


def _usual(usual: float | None, found: float | None, rise: float) -> float | None:
    if not found:
        return usual
    return found if usual is None else min(found, max(usual, _SHORTEST) * rise)


def _suffers(found: float | None, usual: float | None, factor: float, seconds: float) -> bool:
    return found is not None and usual is not None and found > factor * usual + seconds
