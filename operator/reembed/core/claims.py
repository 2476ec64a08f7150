"""Who needs a pool's pods: the sum of what indexes and migrations say, derived anew at each pass.

A pool runs while anybody claims it and is let go only when nobody does; nothing counts up and down, so a restart or a
lost event cannot leave a pool running, or worse, take one away from under the queries.
"""

from __future__ import annotations

from collections.abc import Iterable

from reembed.core.desired import TAKING_BACK, lost
from reembed.core.migration import Migration, SeenIndex
from reembed.core.transitions import FINISHED, State

# What the index says already, a gateway may not have heard yet.
_LETTING_GO = frozenset({State.PROMOTING, State.ROLLING_BACK, State.UNWINDING})
# Whoever got so far has held its index, whatever the index's status says just now.
_UNDER_WAY = frozenset(State) - FINISHED - TAKING_BACK - {State.PREFLIGHT}


def claims(
    pool: str, indexes: Iterable[SeenIndex], migrations: Iterable[Migration], before: Iterable[str] = ()
) -> tuple[str, ...]:
    """Return who uses `pool` of the same namespace, sorted: `EmbeddingIndex/NAME`, `EmbeddingMigration/NAME`.

    `before` is who did at the last pass: an index whose status was emptied goes on to, until it is known again.
    """
    seen, known = tuple(indexes), frozenset(before)
    held = {index.status.active_migration.uid for index in seen if index.status.active_migration is not None}
    by_index = {
        _index(index)
        for index in seen
        if _routes_to(index, pool) or (_index(index) in known and lost(index) and not index.meta.deleting)
    }
    by_migration = {
        f"EmbeddingMigration/{migration.meta.name}"
        for migration in migrations
        if (migration.meta.uid in held or migration.status.state in _UNDER_WAY) and _needs(migration, pool)
    }
    return tuple(sorted(by_index | by_migration))


def replicas(
    pool: str, wanted: int, running: int, indexes: Iterable[SeenIndex], migrations: Iterable[Migration]
) -> int:
    """Return how many pods a variant of `pool` has: never fewer than run while an index moves queries.

    Either side may have to answer all queries the next moment, retention included, and gateways let go of a side a
    moment after the index does. Whoever asks for fewer pods gets them once no candidate of these indexes has a weight
    and none of these migrations waits for gateways; more pods come at once.
    """
    moving = any(index.status.routing.weight > 0 and _routes_to(index, pool) for index in indexes)
    moving |= any(one.status.state in _LETTING_GO and _needs(one, pool) for one in migrations)
    return max(wanted, running) if moving else wanted


def _index(index: SeenIndex) -> str:
    return f"EmbeddingIndex/{index.meta.name}"


def _routes_to(index: SeenIndex, pool: str) -> bool:
    routing = index.status.routing
    return any(arm is not None and arm.pool == pool for arm in (routing.serving, routing.candidate))


def _needs(migration: Migration, pool: str) -> bool:
    """Both sides are needed until the end, even after the index names only one: gateways let go a moment later."""
    if migration.status.state in FINISHED:
        return False
    serving = migration.status.serving
    return migration.spec.pool == pool or (serving is not None and serving.pool == pool)
