"""How many pods of a backfill run at once: fewer while few are still too many for others, more once nobody suffers.

Each pod yields by itself (`core.throttle`): within seconds it asks for as little as an eighth of a request. Many pods
that ask for so little may still be too much for a small store, and no pod can do anything about the others. So when
most of them are down there, and their store or callers' queries suffer all the same, half of the pods go, half a minute
later half of the rest, and the last one stays. Once nobody suffers they come back, an eighth of what the user allows
each minute: slower than they went, since a pod that goes costs up to a page of documents that are embedded twice.

The store worker turns what pods store beside their pages into numbers (`measured`), and every pass of a migration asks
`track` for what follows. A store that reports nothing lately is no reason for anything: the pods may all be waiting.
Emergencies and pauses are not a matter of this module: then no pod runs, and afterwards as many as before.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from reembed.core import desired
from reembed.core.migration import Migration, Seen
from reembed.core.model import Lowered
from reembed.core.quorum import acting
from reembed.core.throttle import LEAST
from reembed.core.transitions import State

# What a pod stores beside its pages: the requests that it may have under way, and 1 for what it yields to.
ASKED = "requests"
THROTTLED_BY = "throttled_by_"

# With this a pod ends that was told to end: it says nothing of its shard, and counts as no try of it.
SENT_AWAY = 143

# By the names that `core.throttle` gives to who suffers.
SUFFERS = {"store": "commits take much longer than usual", "queries": "queries take much longer than usual"}

# The pods that stay take a few seconds to find what suits the others, and are believed for 15 more.
_LOWERS_EVERY = timedelta(seconds=30)
_RAISES_EVERY = timedelta(minutes=1)
_RAISES_BY = 8


def measured(shards: Iterable[Mapping[str, float]]) -> tuple[float | None, str | None]:
    """Return how much shards that moved lately ask for in the median, and what at least half of them yield to.

    None is that no shard says so: none moved, or all are filled by pods of a version that does not.
    """
    known = [shard for shard in shards if ASKED in shard]
    if not known:
        return None, None
    named = Counter(name for shard in known for name in shard if name.startswith(THROTTLED_BY))
    ((name, count),) = named.most_common(1) or [("", 0)]
    yields_to = name.removeprefix(THROTTLED_BY) if 2 * count >= len(known) else None
    return statistics.median(shard[ASKED] for shard in known), yields_to or None


def track(migration: Migration, seen: Seen, now: datetime) -> Lowered | None:
    """Return to how many pods the backfill is lowered after a pass, None if to none."""
    if migration.status.state is not State.BACKFILLING:
        return None
    before, report = migration.status.lowered, desired.own_collection(migration, seen)
    if before is not None and before.at > now:  # the clock was set back
        before = replace(before, at=now)
    if report is None or report.requests is None:
        return before
    stands = now - before.at if before is not None else _RAISES_EVERY
    # Of the pods that may run, only those with a shard do.
    running = min(desired.pods(migration), report.shards - report.shards_done)
    if report.yields_to is not None:
        down = report.requests <= LEAST and running > 1 and stands >= _LOWERS_EVERY
        return Lowered(running // 2, report.yields_to, now) if down else before
    if before is None or stands < _RAISES_EVERY:
        return before
    most = acting.most(migration)
    more = before.pods + max(most // _RAISES_BY, 1)
    return Lowered(more, before.by, now) if more < most else None
