"""The way from a process to the API server and back: it takes time, loses things, and delivers watches late.

`Line` is the real `Cluster` of one process over the server in memory; a write may be carried out and its answer lost,
and a request that is on its way arrives whatever becomes of its process meanwhile. `Watches` hands every change to
`controller.handlers.seen`, each object's changes in their order; a watch that is cut off misses what happens, and the
list with which it begins anew does not tell of the objects that ended meanwhile.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import copy_context
from random import Random
from typing import Any

from reembed.cluster.client import Cluster, ClusterError, Object, Snapshot
from reembed.cluster.kinds import Kind
from reembed.controller.cache import Cache
from reembed.controller.handlers import CHILD_LABELS, CHILDREN, OWN, seen
from reembed.core.leading import WRITE_SECONDS
from tests.sim.api_server import ApiServer, Change
from tests.sim.chances import Chances
from tests.sim.virtual_time import PROCESS, WORLD

_KINDS = frozenset((*OWN, *CHILDREN))
# A request that gets no answer is given up; the real client waits for 30 s.
_GIVEN_UP = 5.0

# Who writes what, when it is sent and when it arrives.
Wrote = Callable[[str, Kind, str], None]


class Weather:
    """What the network and the API server do to requests now; faults change it."""

    def __init__(self) -> None:
        self.down = False  # nobody gets an answer
        self.refused = 0.0  # share of requests that get 429 or 500
        self.lost = 0.0  # share of requests that get no answer, half of them though they were carried out
        self.slow = 0.0  # seconds that a request takes to arrive, at most, and its answer too
        self.slowed: dict[str, float] = {}  # the same for a process alone
        self.lag = 0.05  # of watches, at most
        self.apart: set[str] = set()  # processes that do not reach the API server
        self.disturbed_at = -1e9  # when a request last failed

    def slowness(self, process: str) -> float:
        return max(self.slow, self.slowed.get(process, 0.0)) if self.slowed else self.slow

    @property
    def calm(self) -> bool:
        """Return whether every request is answered at once."""
        return not (self.down or self.refused or self.lost or self.slow or self.slowed)


class Line(Cluster):
    """One process's connection."""

    def __init__(self, server: ApiServer, weather: Weather, chances: Chances) -> None:
        self._server = server
        self._weather = weather
        self._chances = chances
        self.process = ""
        self.closed = False  # the process is dead
        self.held_up = 0.0  # for how many seconds the next request is held up on its way
        self.sent: Wrote = lambda who, kind, name: None
        self.lands: Wrote = lambda who, kind, name: None
        self.who = ""  # which of the process's terms writes here

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return await self._call(kind, name, lambda: self._server.get(kind, name))

    async def snapshot(self, kind: Kind, namespace: str, *, selector: str = "") -> Snapshot:
        labels = dict(one.split("=") for one in selector.split(",")) if selector else {}

        def look() -> Snapshot:
            return Snapshot(list(self._server.labelled(kind, labels)), str(self._server.version))

        return await self._call(kind, "", look)

    async def pages(self, kind: Kind, namespace: str, *, selector: str = "") -> AsyncIterator[Snapshot]:
        yield await self.snapshot(kind, namespace, selector=selector)

    async def watch(self, kind: Kind, namespace: str, *, name: str | None = None) -> AsyncIterator[tuple[str, Object]]:
        """Tell of what is there, then of each change, until the process misses one: that is known at once, as a cut."""
        changes: asyncio.Queue[tuple[str, Object] | None] = asyncio.Queue()

        def changed(change: Change) -> None:
            if change.kind == kind:
                event = "DELETED" if change.after is None else "MODIFIED" if change.before is not None else "ADDED"
                self._tell(changes, (event, change.newest) if self._reaches else None)

        if not self._reaches:
            raise ClusterError(0, "the API server did not answer")
        for obj in self._server.all(kind):
            self._tell(changes, ("ADDED", obj))
        self._server.listeners.append(changed)
        try:
            while (found := await changes.get()) is not None:
                yield found
        finally:
            self._server.listeners.remove(changed)
        raise ClusterError(0, "a watch was cut off")

    def _tell(self, changes: asyncio.Queue[tuple[str, Object] | None], what: tuple[str, Object] | None) -> None:
        """Tell of changes in their order, as late as watches are."""
        lag = self._weather.lag / 2
        asyncio.get_running_loop().call_later(lag, changes.put_nowait, what, context=WORLD)

    @property
    def _reaches(self) -> bool:
        return not (self.closed or self._weather.down or self.process in self._weather.apart)

    async def apply(self, kind: Kind, obj: Object, *, manager: str, subresource: str | None = None) -> Object:
        name = obj["metadata"]["name"]
        return await self._write(kind, name, lambda: self._server.apply(kind, obj, manager, subresource or ""))

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Mapping[str, Any],
        *,
        manager: str,
        subresource: str | None = None,
    ) -> Object:
        return await self._write(kind, name, lambda: self._server.patch(kind, name, change, manager))

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        return await self._write(kind, name, lambda: self._server.delete(kind, name, uid=uid, by="operator"))

    async def create(self, kind: Kind, namespace: str, obj: Object, *, manager: str) -> Object:
        return await self._write(kind, obj["metadata"]["name"], lambda: self._server.create(kind, obj, manager))

    async def _write(self, kind: Kind, name: str, act: Callable[[], Any]) -> Any:
        self.sent(self.who, kind, name)

        def carried_out() -> Any:
            self.lands(self.who, kind, name)
            return act()

        return await self._call(kind, name, carried_out)

    async def _call(self, kind: Kind, name: str, act: Callable[[], Any]) -> Any:
        """Send a request, and wait for its answer."""
        if self.closed:
            raise ClusterError(0, "the process is dead")
        loop = asyncio.get_running_loop()
        # Each object has a chance of its own: what happens to it does not hang on the order of other loops.
        chance, weather = self._chances.of("request", kind.plural, name), self._weather
        slow = weather.slowness(self.process)
        way = chance.uniform(0.002, 0.03) + (chance.uniform(0, slow) if slow else 0.0) + self.held_up
        self.held_up = 0.0
        answer: Future[Any] = loop.create_future()
        arrive = self._arrive_late if way > WRITE_SECONDS else self._arrive
        loop.call_later(way, arrive, chance, act, answer, context=WORLD)
        return await answer

    def _arrive_late(self, chance: Random, act: Callable[[], Any], answer: Future[Any]) -> None:
        """Arrive, unless its client has closed the connection: `core.leading` counts on that."""
        if not answer.cancelled():
            self._arrive(chance, act, answer)

    def _arrive(self, chance: Random, act: Callable[[], Any], answer: Future[Any]) -> None:
        """Carry a request out, whether anybody still waits for its answer or not: it was sent."""
        weather = self._weather
        if weather.down or self.process in weather.apart:
            self._silent(answer)
            return
        if weather.refused and chance.random() < weather.refused:
            weather.disturbed_at = asyncio.get_running_loop().time()
            status = chance.choice((429, 500))
            _end(answer, ClusterError(status, f"the API server answered {status}: it has other worries"))
            return
        lost = weather.lost and chance.random() < weather.lost
        if lost and chance.random() < 0.5:
            self._silent(answer)
            return
        found = _tried(act)
        if lost:
            self._silent(answer)
        elif isinstance(found, ClusterError):
            _end(answer, found)
        else:
            slow = weather.slowness(self.process)
            back = chance.uniform(0.001, 0.01) + (chance.uniform(0, slow) if slow else 0.0)
            asyncio.get_running_loop().call_later(back, _end, answer, found, context=WORLD)

    def _silent(self, answer: Future[Any]) -> None:
        """Have nobody answer, until the client gives up."""
        loop = asyncio.get_running_loop()
        self._weather.disturbed_at = loop.time()
        loop.call_later(_GIVEN_UP, self._give_up, answer, context=WORLD)

    def _give_up(self, answer: Future[Any]) -> None:
        self._weather.disturbed_at = asyncio.get_running_loop().time()
        _end(answer, ClusterError(0, "the API server did not answer"))


def _tried(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except ClusterError as error:
        return error


def _end(answer: Future[Any], what: Any) -> None:
    if answer.done():
        return
    if isinstance(what, Exception):
        answer.set_exception(what)
    else:
        answer.set_result(what)


class Watches:
    """The watches of all operators, in kopf's place."""

    def __init__(self, server: ApiServer, weather: Weather, chances: Chances) -> None:
        self._server = server
        self._weather = weather
        self._chances = chances
        self._cut: set[Kind] = set()
        self._streams: list[_Stream] = []

    async def watch(self, namespace: str, cache: Cache, stop: asyncio.Event) -> None:
        """Tell of everything that is there, then of each change, until cancelled."""
        if not self._streams:
            self._cut = set()
        stream = _Stream(cache, self._weather, self._chances)
        self._streams.append(stream)

        def changed(change: Change) -> None:
            if change.kind in _KINDS and change.kind not in self._cut:
                stream.changed(change)

        self._server.listeners.append(changed)
        try:
            self._list(stream, *_ALL)
            await asyncio.Event().wait()
        finally:
            self._server.listeners.remove(changed)
            self._streams.remove(stream)
            stream.open = False

    def cut(self, kind: Kind) -> None:
        """Lose the watch of a kind."""
        self._cut.add(kind)

    def again(self, kind: Kind) -> None:
        """Begin the watch of a kind anew: with a list, which does not tell what is gone."""
        if kind in self._cut:
            self._cut.discard(kind)
            for stream in self._streams:
                self._list(stream, kind)

    def joined(self, process: str) -> None:
        """Begin all watches of a process anew."""
        for stream in self._streams:
            if stream.process == process:
                self._list(stream, *_ALL)

    @property
    def blind(self) -> bool:
        """Whether something happens of which the operator hears by its next list only."""
        return bool(self._cut)

    @property
    def whole(self) -> bool:
        return not self._cut and bool(self._streams)

    def _list(self, stream: _Stream, *kinds: Kind) -> None:
        for kind in kinds:
            for obj in self._server.all(kind):
                stream.deliver(kind, None, obj)


_ALL = (*OWN, *CHILDREN)


class _Stream:
    """The watches of one process."""

    def __init__(self, cache: Cache, weather: Weather, chances: Chances) -> None:
        self._cache = cache
        self._weather = weather
        self._chances = chances
        self._arrives: dict[tuple[Kind, str], float] = {}
        self._context = copy_context()
        self.process = PROCESS.get()
        self.open = True

    def changed(self, change: Change) -> None:
        if self.process not in self._weather.apart:
            kind = "DELETED" if change.after is None else "MODIFIED" if change.before is not None else "ADDED"
            self.deliver(change.kind, kind, change.newest)

    def deliver(self, kind: Kind, change: str | None, obj: Object) -> None:
        labels = obj["metadata"].get("labels") or {}
        if kind in CHILDREN and not CHILD_LABELS.items() <= labels.items():
            return
        loop, key = asyncio.get_running_loop(), (kind, obj["metadata"]["name"])
        lag = self._chances.of("watch", self.process, kind.plural, key[1]).uniform(0.01, self._weather.lag)
        self._arrives[key] = at = max(self._arrives.get(key, 0.0), loop.time() + lag)
        loop.call_at(at, self._arrive, kind, change, obj, context=self._context)

    def _arrive(self, kind: Kind, change: str | None, obj: Object) -> None:
        if self.open:  # else the process that waited for it is dead
            seen(kind, change, obj, self._cache)
