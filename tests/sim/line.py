"""The way from a process to the API server and back: it takes time, loses things, and delivers watches late.

`Line` is the real `Cluster` of one process over the server in memory; a write may be carried out and its answer lost.
`Watches` hands every change to `controller.handlers.seen`, each object's changes in their order; a watch that is cut
off misses what happens, and the list with which it begins anew does not tell of the objects that ended meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from reembed.cluster.client import Cluster, ClusterError, Object, Snapshot
from reembed.cluster.kinds import Kind
from reembed.controller.cache import Cache
from reembed.controller.handlers import CHILD_LABELS, CHILDREN, OWN, seen
from reembed.controller.loop import Loops
from tests.sim.api_server import ApiServer, Change
from tests.sim.chances import Chances

_KINDS = frozenset((*OWN, *CHILDREN))
# A request that gets no answer is given up; the real client waits for 30 s.
_GIVEN_UP = 5.0

Wrote = Callable[[Kind, str], None]


class Weather:
    """What the network and the API server do to requests now; faults change it."""

    def __init__(self) -> None:
        self.down = False  # nobody gets an answer
        self.refused = 0.0  # share of requests that get 429 or 500
        self.lost = 0.0  # share of requests that get no answer, half of them though they were carried out
        self.lag = 0.05  # of watches, at most
        self.disturbed_at = -1e9  # when a request last failed


class Line(Cluster):
    """One process's connection."""

    def __init__(self, server: ApiServer, weather: Weather, chances: Chances, wrote: Wrote) -> None:
        self._server = server
        self._weather = weather
        self._chances = chances
        self._wrote = wrote

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return await self._call(kind, name, lambda: self._server.get(kind, name))

    async def snapshot(self, kind: Kind, namespace: str, *, selector: str = "") -> Snapshot:
        labels = dict(one.split("=") for one in selector.split(",")) if selector else {}

        def look() -> Snapshot:
            return Snapshot(list(self._server.labelled(kind, labels)), str(self._server.version))

        return await self._call(kind, "", look)

    async def apply(self, kind: Kind, obj: Object, *, manager: str, subresource: str | None = None) -> Object:
        name = obj["metadata"]["name"]
        return await self._write(kind, name, lambda: self._server.apply(kind, obj, manager, subresource or ""))

    async def patch(self, kind: Kind, namespace: str, name: str, change: Mapping[str, Any], *, manager: str) -> Object:
        return await self._write(kind, name, lambda: self._server.patch(kind, name, change, manager))

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        return await self._write(kind, name, lambda: self._server.delete(kind, name, uid=uid, by="operator"))

    async def create(self, kind: Kind, namespace: str, obj: Object, *, manager: str) -> Object:
        return await self._write(kind, obj["metadata"]["name"], lambda: self._server.create(kind, obj, manager))

    async def _write(self, kind: Kind, name: str, act: Callable[[], Any]) -> Any:
        self._wrote(kind, name)
        return await self._call(kind, name, act)

    async def _call(self, kind: Kind, name: str, act: Callable[[], Any]) -> Any:
        # Each object has a chance of its own: what happens to it does not hang on the order of other loops.
        chance, weather = self._chances.of("request", kind.plural, name), self._weather
        await asyncio.sleep(chance.uniform(0.002, 0.03))
        if weather.down:
            await self._unanswered()
        if weather.refused and chance.random() < weather.refused:
            weather.disturbed_at = asyncio.get_running_loop().time()
            status = chance.choice((429, 500))
            raise ClusterError(status, f"the API server answered {status}: it has other worries")
        lost = weather.lost and chance.random() < weather.lost
        if lost and chance.random() < 0.5:
            await self._unanswered()
        found = act()
        if lost:
            await self._unanswered()
        await asyncio.sleep(chance.uniform(0.001, 0.01))
        return found

    async def _unanswered(self) -> None:
        self._weather.disturbed_at = asyncio.get_running_loop().time()
        await asyncio.sleep(_GIVEN_UP)
        self._weather.disturbed_at = asyncio.get_running_loop().time()
        raise ClusterError(0, "the API server did not answer")


class Watches:
    """The watches of one operator, in kopf's place."""

    def __init__(self, server: ApiServer, weather: Weather, chances: Chances) -> None:
        self._server = server
        self._weather = weather
        self._chances = chances
        self._cut: set[Kind] = set()
        self._arrives: dict[tuple[Kind, str], float] = {}
        self._to: tuple[Cache, Loops] | None = None

    async def watch(self, namespace: str, cache: Cache, loops: Loops, stop: asyncio.Event) -> None:
        """Tell of everything that is there, then of each change, until cancelled."""
        self._to = (cache, loops)
        self._cut, self._arrives = set(), {}
        self._server.listeners.append(self._changed)
        try:
            for kind in (*OWN, *CHILDREN):
                self._list(kind)
            await asyncio.Event().wait()
        finally:
            self._server.listeners.remove(self._changed)
            self._to = None

    def cut(self, kind: Kind) -> None:
        """Lose the watch of a kind."""
        self._cut.add(kind)

    def again(self, kind: Kind) -> None:
        """Begin the watch of a kind anew: with a list, which does not tell what is gone."""
        if kind in self._cut:
            self._cut.discard(kind)
            if self._to is not None:
                self._list(kind)

    @property
    def blind(self) -> bool:
        """Whether something happens of which the operator hears by its next list only."""
        return bool(self._cut)

    @property
    def whole(self) -> bool:
        return not self._cut and self._to is not None

    def _list(self, kind: Kind) -> None:
        for obj in self._server.all(kind):
            self._deliver(kind, None, obj)

    def _changed(self, change: Change) -> None:
        if change.kind in _KINDS and change.kind not in self._cut:
            kind = "DELETED" if change.after is None else "MODIFIED" if change.before is not None else "ADDED"
            self._deliver(change.kind, kind, change.newest)

    def _deliver(self, kind: Kind, change: str | None, obj: Object) -> None:
        labels = obj["metadata"].get("labels") or {}
        if kind in CHILDREN and not CHILD_LABELS.items() <= labels.items():
            return
        loop, key = asyncio.get_running_loop(), (kind, obj["metadata"]["name"])
        lag = self._chances.of("watch", kind.plural, key[1]).uniform(0.01, self._weather.lag)
        self._arrives[key] = at = max(self._arrives.get(key, 0.0), loop.time() + lag)
        loop.call_at(at, self._arrive, kind, change, obj, self._to)

    def _arrive(self, kind: Kind, change: str | None, obj: Object, to: tuple[Cache, Loops]) -> None:
        if to is self._to:  # else the process that waited for it is dead
            seen(kind, change, obj, *to)
