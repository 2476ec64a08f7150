"""Pods go only after fewer were enough for a whole window: what was asked for within it stands, in the pool's status.

Only numbers that are larger than every newer one are kept, and refreshed ten times a window at most: each refresh is a
write. So the window is true to a tenth of it, and an operator that starts anew waits neither longer nor shorter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from reembed.core.model import Recommendation, Variant

_REFRESH = 10


def standing(
    found: Iterable[Recommendation], variant: Variant, now: datetime, window: timedelta
) -> list[Recommendation]:
    """Return what stands of a variant."""
    return _maxima(one for one in _own(found, variant, now) if now - one.at < window)


def stabilised(
    variant: Variant,
    wanted: int,
    desired: int,
    found: Iterable[Recommendation],
    when: tuple[datetime, timedelta],
) -> tuple[int, list[Recommendation]]:
    """Return a variant's pods with the larger numbers of the window, and which of these stand from now on.

    Whoever had more until now was asked for that a moment ago, unless a standing number says otherwise. A maxReplicas
    that somebody lowered holds at once.
    """
    now, window = when
    own = _own(found, variant, now)
    known = [one for one in own if now - one.at < window]
    before = min(desired, variant.max_replicas)
    if before > wanted and window and before > max((one.replicas for one in own), default=0):
        known.append(Recommendation(variant.name, before, now))
    if not any(one.replicas > wanted for one in known):
        return wanted, []
    known = _noted(known, Recommendation(variant.name, wanted, now), window / _REFRESH)
    return max(one.replicas for one in known), _maxima(known)


def _own(found: Iterable[Recommendation], variant: Variant, now: datetime) -> list[Recommendation]:
    """Return the numbers of a variant. A time that lies ahead is of a clock that was set back: it was a moment ago."""
    return [
        replace(one, replicas=min(one.replicas, variant.max_replicas), at=min(one.at, now))
        for one in found
        if one.variant == variant.name
    ]


def _noted(known: list[Recommendation], latest: Recommendation, lasts: timedelta) -> list[Recommendation]:
    """Note what is wanted now, in case that less is soon; nothing, if what was noted a moment ago is no less."""
    covered = any(one.replicas >= latest.replicas and latest.at - one.at < lasts for one in known)
    return known if covered or not latest.replicas else [*known, latest]


def _maxima(known: Iterable[Recommendation]) -> list[Recommendation]:
    """Return, newest first, only numbers that are larger than every newer one: the others never decide."""
    kept: list[Recommendation] = []
    for one in sorted(known, key=lambda entry: (entry.at, entry.replicas), reverse=True):
        if one.replicas > max((other.replicas for other in kept), default=0):
            kept.append(one)
    return kept
