"""Takes the Lease, keeps it, hands it over, and lets nothing be written without it.

A `Term` is one replica's way from candidate to leader to the end of that; it is never used twice, and neither is what
an operator remembered in it: another leader may have decided meanwhile. `Fenced` stands before every write of the
operator. It asks the clock and not a task, so that it holds for a process that was stopped for a minute and goes on in
the middle of a pass, before anybody told it that its time is over. `core.leading` has the rules.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from reembed.cluster.client import Cluster, ClusterError, Conflict, Object, Snapshot
from reembed.cluster.kinds import Kind
from reembed.core import leading
from reembed.core.leading import Record, Sight

# Before the next look after somebody else was faster, in seconds.
_MOMENT = 0.1
# Two clocks disagree by less.
_INSTANT = 0.001

_LOGGER = logging.getLogger("reembed.controller")

T = TypeVar("T")
Monotonic = Callable[[], float]


def boot_clock() -> float:
    """Return seconds that no clock's correction moves, and that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class NotLeading(ClusterError):
    """Another replica may lead by now: nothing was written."""

    def __init__(self) -> None:
        super().__init__(0, "this replica does not lead, or could not renew its lease in time; nothing was written")


class LeaseObject(Protocol):
    """The Lease; `cluster.lease` has the real one."""

    async def read(self) -> Record | None: ...

    async def write(self, wanted: Record, before: Record | None) -> Record: ...


class Term:
    """What one replica may do: nothing, until it leads, and nothing again once that is over."""

    def __init__(self, clock: Monotonic = boot_clock) -> None:
        self.clock = clock
        self.began = asyncio.Event()
        self.over = asyncio.Event()
        self.holder = ""  # who leads, as far as this replica knows
        self.problem = ""  # why the Lease could not be looked at or written at the last try
        self._renewed: float | None = None
        self._writes: set[asyncio.Task[Any]] = set()  # sent, and not answered yet

    def renewed(self, sent: float) -> None:
        """Note a renewal that was sent at `sent` and answered."""
        self._renewed = sent
        if self.leads():
            self.began.set()

    def leads(self) -> bool:
        return not self.over.is_set() and leading.may_write(self._renewed, self.clock())

    def left(self) -> float:
        """Return for how many seconds this replica may still write without another renewal."""
        return leading.left(self._renewed, self.clock())

    def end(self) -> None:
        self.over.set()

    async def write(self, sent: Coroutine[Any, Any, T]) -> T:
        """Send a write and return its answer; it goes on where nobody waits for that any more."""
        write = asyncio.create_task(sent, name="write")
        self._writes.add(write)
        write.add_done_callback(self._answered)
        return await asyncio.shield(write)

    async def written(self) -> None:
        """Wait for every write that is on its way: it arrived, or was given up after its time."""
        if self._writes:
            await asyncio.wait(self._writes)

    def _answered(self, write: asyncio.Task[Any]) -> None:
        self._writes.discard(write)
        if not write.cancelled():
            write.exception()  # who waited for it knows; nobody else has to hear of it


# Far below what one client's connections carry, and more than an API server needs to be busy.
_WRITES_AT_ONCE = 16


class Fenced(Cluster):
    """A cluster that takes writes from a leader alone, and none for longer than is left until another may lead."""

    def __init__(self, cluster: Cluster, term: Term) -> None:
        self._cluster = cluster
        self._term = term
        self._slots = asyncio.Semaphore(_WRITES_AT_ONCE)

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return await self._cluster.get(kind, namespace, name)

    async def snapshot(self, kind: Kind, namespace: str, *, selector: str = "") -> Snapshot:
        return await self._cluster.snapshot(kind, namespace, selector=selector)

    async def pages(self, kind: Kind, namespace: str, *, selector: str = "") -> AsyncIterator[Snapshot]:
        async for page in self._cluster.pages(kind, namespace, selector=selector):
            yield page

    async def watch(self, kind: Kind, namespace: str, *, name: str | None = None) -> AsyncIterator[tuple[str, Object]]:
        async for change in self._cluster.watch(kind, namespace, name=name):
            yield change

    async def apply(self, kind: Kind, obj: Object, *, manager: str, subresource: str | None = None) -> Object:
        return await self._sent(lambda: self._cluster.apply(kind, obj, manager=manager, subresource=subresource))

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
        return await self._sent(
            lambda: self._cluster.patch(kind, namespace, name, change, manager=manager, subresource=subresource)
        )

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        await self._sent(lambda: self._cluster.delete(kind, namespace, name, uid=uid))

    async def create(self, kind: Kind, namespace: str, obj: Object, *, manager: str) -> Object:
        return await self._sent(lambda: self._cluster.create(kind, namespace, obj, manager=manager))

    async def _sent(self, write: Callable[[], Coroutine[Any, Any, T]]) -> T:
        # The time of a write counts from when it can be sent: at the start of a large fleet thousands want to be, and
        # all of them would be given up at once, to be tried again at once.
        async with self._slots:
            if not self._term.leads():
                raise NotLeading
            return await self._term.write(_in_time(write()))


async def _in_time(write: Coroutine[Any, Any, T]) -> T:
    try:
        async with asyncio.timeout(leading.WRITE_SECONDS):
            return await write
    except TimeoutError as error:
        text = f"the API server did not answer a write within {leading.WRITE_SECONDS:g} s; it is given up"
        raise ClusterError(0, text) from error


class Candidate:
    """One replica's hand on the Lease, over all its terms."""

    def __init__(self, lease: LeaseObject, identity: str) -> None:
        self._lease = lease
        self._identity = identity
        self._sight: Sight | None = None
        self._led = False

    async def stand(self, term: Term) -> None:
        """Take the Lease as soon as it is free, and keep it until that fails; the term is over then."""
        try:
            await self._take(term)
            self._led = True
            _LOGGER.info("%s leads, by lease %s", self._identity, self._lease)
            await self._keep(term)
        finally:
            term.end()

    async def hand_over(self, term: Term) -> None:
        """Let another replica lead at once; only after everything that writes has ended, and every write is answered.

        A pass that was cut off leaves its write on the way, and it must not land among those of the next leader. Where
        that cannot be told to the API server, the other one waits until the lease has run out.
        """
        term.end()
        await term.written()
        try:
            async with asyncio.timeout(leading.RETRY):
                await self._release(term)
        except (ClusterError, TimeoutError) as error:
            _LOGGER.warning("lease %s was not handed over: %s; the next leader waits for it", self._lease, _told(error))

    async def _release(self, term: Term) -> None:
        record = self._held()
        if record is None:
            return
        try:
            await self._write(term, Record("", record.transitions), record)
        except Conflict:
            await self._look(term)  # a renewal that was cut off may have arrived
            await self._release(term)
        else:
            _LOGGER.info("lease %s is handed over", self._lease)

    def _held(self) -> Record | None:
        """Return the Lease as it was last seen, None if it was not ours."""
        record = self._sight.record if self._sight is not None else None
        return record if record is not None and record.holder == self._identity else None

    async def _take(self, term: Term) -> None:
        while not term.began.is_set():
            try:
                async with asyncio.timeout(leading.ASK_SECONDS):
                    pause = await self._try(term)
            except Conflict:
                pause = _MOMENT  # another was faster, or its holder renewed it
            except (ClusterError, TimeoutError) as error:
                self._failed(term, error)
                pause = leading.RETRY
            if not term.began.is_set():
                await asyncio.sleep(pause)

    async def _try(self, term: Term) -> float:
        """Look at the Lease, take it if it is free, and return for how long to wait before the next look."""
        sight = await self._look(term)
        # Whoever failed to renew must not take its own lease again before anybody else could.
        left = leading.until_free(sight, "" if self._led else self._identity, term.clock())
        if left <= 0:
            sent = term.clock()
            await self._write(term, leading.taken(sight, self._identity), sight.record)
            term.renewed(sent)
        return min(max(left, _MOMENT), leading.RETRY)

    async def _keep(self, term: Term) -> None:
        """Renew until there is no time left to do so, or the Lease is another's."""
        tried = term.clock()
        while term.leads():
            await asyncio.sleep(max(min(term.left(), tried + leading.RETRY - term.clock()), _INSTANT))
            tried = term.clock()
            try:
                async with asyncio.timeout(min(term.left(), leading.ASK_SECONDS)):
                    await self._renew(term)
            except (ClusterError, TimeoutError) as error:
                self._failed(term, error)
            if term.holder != self._identity:
                _LOGGER.error("lease %s is held by %r now; this replica stops to lead", self._lease, term.holder)
                return
        text = "lease %s could not be renewed for %g s (%s); this replica stops to lead"
        _LOGGER.error(text, self._lease, leading.RENEW_DEADLINE, term.problem or "the process stood still")

    async def _renew(self, term: Term) -> None:
        record = self._sight.record if self._sight is not None else None
        sent = term.clock()
        try:
            await self._write(term, Record(self._identity, record.transitions if record else 0), record)
        except Conflict:
            # A renewal whose answer was lost, a person's hand, or another leader.
            await self._look(term)
            return
        except ClusterError as error:
            if error.status != 404:
                raise
            self._sight = Sight(None, term.clock())  # deleted by somebody: the next try makes it again
            return
        term.renewed(sent)

    async def _look(self, term: Term) -> Sight:
        return self._know(term, await self._lease.read())

    async def _write(self, term: Term, wanted: Record, before: Record | None) -> None:
        self._know(term, await self._lease.write(wanted, before))

    def _know(self, term: Term, record: Record | None) -> Sight:
        self._sight = leading.seen(self._sight, record, term.clock())
        term.holder, term.problem = record.holder if record is not None else "", ""
        return self._sight

    def _failed(self, term: Term, error: Exception) -> None:
        term.problem = _told(error)
        _LOGGER.warning("lease %s: %s; tried again in %g s", self._lease, term.problem, leading.RETRY)


def _told(error: Exception) -> str:
    return str(error) or "the API server did not answer in time"
