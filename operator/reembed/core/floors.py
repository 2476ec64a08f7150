"""How many pods of a pool a migration needs before it moves queries, whatever the pods carry now.

While queries move, either side may have to answer all of them the next moment: what serves keeps room for the whole
query rate (the peak of the last hour), and the candidate has room for its next step before that begins. What a pod can
do is what it was seen to do, less the same reserve that pods are scaled by. What was needed once stays needed until the
migration is over: a floor that followed the rate down would let a raise wait for pods again and again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from reembed.core.load import Load
from reembed.core.migration import Migration
from reembed.core.transitions import State

_MOVING = frozenset({State.EVALUATING, State.CANARY, State.RETAINING, State.PROMOTING})
# As much of its time a pod computes when it carries what it should.
_BUSY = 0.7
_MOST = 1000


def floor(pool: str, migrations: Iterable[Migration], loads: Mapping[str, Load], before: int) -> int:
    """Return the pods of `pool` that migrations need; `before` is what they needed at the last pass."""
    moving = [one for one in migrations if one.status.state in _MOVING and pool in _sides(one)]
    if not moving:
        return 0
    rate = math.fsum(_texts(pool, one, loads) for one in moving)
    if any(pool == _serving(one) for one in moving):
        rate += _peak(pool, loads)
    return min(max(before, _pods(rate, pool, moving, loads)), _MOST)


def _texts(pool: str, migration: Migration, loads: Mapping[str, Load]) -> float:
    """Return the live texts a second that a migration may send to a pool, besides those that it has already."""
    if pool == _serving(migration):
        return _peak(migration.spec.pool, loads)
    whole = _peak(migration.spec.pool, loads) + _peak(_serving(migration), loads)
    return whole * _next_weight(migration) / 100


def _pods(rate: float, pool: str, moving: Iterable[Migration], loads: Mapping[str, Load]) -> int:
    speed = loads[pool].speed if pool in loads else None
    sides = {name: loads[name] for one in moving for name in _sides(one) if name in loads}
    tokens = max((load.tokens_a_text for load in sides.values() if load.tokens_a_text), default=None)
    if not speed or tokens is None:
        return 0  # nothing was measured: the minimum has to do
    return math.ceil(min(rate * tokens / (speed * _BUSY), _MOST))


def _next_weight(migration: Migration) -> int:
    status, steps = migration.status, migration.spec.steps
    if status.state is State.EVALUATING:
        return steps[0].weight
    if status.state is State.CANARY and status.step + 1 < len(steps):
        return steps[status.step + 1].weight
    return 100


def _serving(migration: Migration) -> str:
    return migration.status.serving.pool if migration.status.serving is not None else ""


def _sides(migration: Migration) -> tuple[str, ...]:
    return (migration.spec.pool, _serving(migration))


def _peak(pool: str, loads: Mapping[str, Load]) -> float:
    return loads[pool].peak if pool in loads else 0.0
