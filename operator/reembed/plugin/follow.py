"""Looking at one migration again and again: for `get --watch`, `status` and the answer to a command.

The object is read every second rather than watched: a second is what a person can follow, and nothing has to be
repaired when a connection breaks. A server that does not answer for a while does not end it; one that refuses does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from reembed.plugin.lookup import Place, find, find_or_none, surrounded
from reembed.plugin.overview import Overview
from reembed.plugin.problems import Problem, Vanished, passing

_INTERVAL_SECONDS = 1.0
# Index and pools change seldom, and cost three requests more.
_SURROUNDINGS_EVERY = 5
# Longer than an API server takes to restart; after that somebody has to look.
_PATIENCE_LOOKS = 60


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen last, and why there is nothing newer."""

    overview: Overview
    problem: str = ""


async def looks(place: Place, *, surroundings: bool = False) -> AsyncGenerator[Look, None]:
    """Yield the migration once a second; never ends by itself.

    Raises:
        Vanished: it was there, and is gone or another one of its name.
        Problem: it was never there, may not be looked at, or the server was silent for a minute.

    """
    overview, failures, number = await find(place), 0, 0
    while True:
        if surroundings and number % _SURROUNDINGS_EVERY == 0:
            overview = await surrounded(place.cluster, overview)
        yield Look(overview)
        number += 1
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            try:
                overview = await _again(place, overview)
                failures = 0
                break
            except Problem as problem:
                failures += 1
                if not passing(problem) or failures >= _PATIENCE_LOOKS:
                    raise
                yield Look(overview, str(problem))


async def _again(place: Place, before: Overview) -> Overview:
    found = await find_or_none(place)
    what = f"migration {place.name!r} in namespace {place.namespace!r}"
    if found is None:
        raise Vanished(f"{what} was deleted; it was in {before.state or 'Pending'}")
    if found.uid != before.uid:
        raise Vanished(f"{what} was deleted and made anew; ask again to follow the new one")
    return replace(found, surroundings=before.surroundings)
