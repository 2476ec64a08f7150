"""The operator's processes: the real `Operator`, begun with empty hands, and killed in the middle of anything.

One process alone leads without asking anybody. Of several each is the real `Replica`, with the real `Candidate`,
`Term` and `Fenced`, and the Lease is an object like any other. Only kopf is not there: `watching.watch` is replaced by
the world's watches. A process can be frozen, lose its way to the API server, and have a wall clock of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import datetime, timedelta
from unittest.mock import patch

from reembed import signing
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError
from reembed.cluster.kinds import Kind
from reembed.cluster.lease import Lease
from reembed.controller import operator as module
from reembed.controller.cache import Key
from reembed.controller.leading import Candidate, Fenced, Term
from reembed.controller.loop import Ended, Pass
from reembed.controller.settings import Images, Settings
from reembed.controller.web import Metrics
from tests.sim.api_server import NAMESPACE
from tests.sim.chamber import verify
from tests.sim.line import Line
from tests.sim.prometheus import Asked
from tests.sim.virtual_time import PROCESS, running
from tests.sim.world import World

IMAGES = Images("embedder:1", "gateway:1", "backfill:1", "IfNotPresent")
LEASE = "reembed-operator"
# What a clock counts as a second, by process: quartz is a hundred times better.
_RATES = (1.0, 1.02, 0.99)


class Process:
    """A place in the operator's Deployment: one process after another."""

    def __init__(self, world: World, metrics: Metrics, number: int) -> None:
        self._world = world
        self._metrics = metrics
        self._rate = _RATES[number]
        self._tasks: list[asyncio.Task[None]] = []
        self._lines: list[Line] = []
        self._stop = asyncio.Event()
        self._terms = 0
        self.name = "abc"[number]
        self.identity = ""
        self.operator: module.Operator | None = None
        self.term: Term | None = None
        self.began = 0.0  # when it was started, or began to lead
        self.passed: dict[Key, float] = {}  # when the last pass of an object ended since then
        self.frozen = False
        self.as_it_writes: Callable[[Line], None] | None = None  # what happens when it next sends a migration's status
        self.skew = timedelta(0)  # of its wall clock
        self.problem: Exception | None = None  # what a pass raised that is nobody's weather

    def start(self, identity: str = "") -> None:
        """Start it, to stand for the Lease as `identity` or to lead alone."""
        context = copy_context()
        context.run(PROCESS.set, self.name)
        self._stop = asyncio.Event()
        self.identity = identity
        work = self._stand(identity) if identity else self._alone()
        self._tasks = [asyncio.get_running_loop().create_task(work, context=context)]
        self._world.happen("operator starts", identity)

    def kill(self) -> list[asyncio.Task[None]]:
        """End it at once; nothing is handed over, and no request leaves it any more."""
        ended, self._tasks = self._tasks, []
        for line in self._lines:
            line.closed = True
        for task in ended:
            task.cancel()
        self.thaw()
        self.operator, self.term, self._lines = None, None, []
        if ended:
            self._world.happen("operator dies", self.name)
        return ended

    def stop(self) -> None:
        """Tell it to end in order."""
        self._stop.set()

    def freeze(self) -> None:
        self.frozen = True
        running().freeze(self.name)

    def thaw(self) -> None:
        self.as_it_writes = None
        if self.frozen:
            self.frozen = False
            running().thaw(self.name)

    @property
    def runs(self) -> bool:
        return bool(self._tasks) and not self._tasks[0].done()

    @property
    def leads(self) -> bool:
        """Return whether it may write, as far as it knows."""
        return self.operator is not None and (self.term is None or self.term.leads())

    @property
    def reaches(self) -> bool:
        """Return whether nothing keeps it from the API server."""
        return self.runs and not self.frozen and self.name not in self._world.weather.apart

    def clock(self) -> datetime:
        return self._world.clock() + self.skew

    def _boot_clock(self) -> float:
        return self._world.now() * self._rate

    async def _alone(self) -> None:
        self.operator = self._made(self._line(), None)
        await self.operator.run(self._stop)

    async def _stand(self, identity: str) -> None:
        lease = Lease(self._line(), NAMESPACE, LEASE)
        replica = module.Replica(Candidate(lease, identity), self._of_term, self._metrics)
        await replica.run(self._stop)

    def _of_term(self, term: Term) -> module.Operator:
        term.clock = self._boot_clock
        self.term = term
        self.operator = made = self._made(self._line(), term)
        self._tasks.append(asyncio.get_running_loop().create_task(self._note(term)))
        return made

    async def _note(self, term: Term) -> None:
        await term.began.wait()
        self.began = self._world.now()
        self._world.happen("operator leads", self.name)

    def _line(self) -> Line:
        """Return a connection; each term has its own name in what it writes."""
        world = self._world
        line = Line(world.server, world.weather, world.chances)
        self._terms += 1
        line.process, line.who = self.name, f"{self.name}{self._terms}"
        line.sent, line.lands = self._sent, world.landed
        self._lines.append(line)
        return line

    def _sent(self, who: str, kind: Kind, name: str) -> None:
        self._world.wrote(who, kind, name)
        if self.as_it_writes is not None and kind == kinds.MIGRATION:
            do, self.as_it_writes = self.as_it_writes, None
            do(next(line for line in self._lines if line.who == who))

    def _made(self, line: Line, term: Term | None) -> module.Operator:
        world = self._world
        cluster = line if term is None else Fenced(line, term)
        panel = NAMESPACE if world.chamber.sits else ""
        settings, prometheus = Settings((NAMESPACE,), IMAGES, panel=panel), Asked(world.prometheus, self._boot_clock)
        made = module.Operator(cluster, world, settings, self._metrics, clock=self.clock, prometheus=prometheus)
        made.loops._pass = self._watched(made)
        self.began, self.passed = world.now(), {}
        return made

    def _watched(self, made: module.Operator) -> Pass:
        async def run(key: Key) -> timedelta | Ended:
            try:
                again = await made._pass(key)
            except ClusterError:
                raise
            except Exception as error:
                self.problem = error
                self._world.happen("pass fails", f"{key.kind.name}/{key.name}: {error!r}")
                raise
            finally:
                self.passed[key] = self._world.now()
            self._world.note("pass", f"{key.kind.name}/{key.name}")
            return again

        return run


class Operators:
    """All processes of the operator; of one alone it is the one that leads."""

    def __init__(self, world: World, metrics: Metrics, replicas: int) -> None:
        self.all = [Process(world, metrics, number) for number in range(replicas)]
        self._ended: list[asyncio.Task[None]] = []
        self._started = 0

    def start(self) -> None:
        """Start every process that does not run."""
        for one in self.all:
            self.begin(one)

    def begin(self, process: Process, *, same: bool = False) -> None:
        """Start a process that does not run: `same` is a container that was restarted, else it is a new pod."""
        if process.runs:
            return
        self._started += 1
        new = f"{process.name}-{self._started}" if self.elected else ""
        process.start(process.identity if same and process.identity else new)

    def kill(self, process: Process | None = None) -> None:
        for one in self.all if process is None else [process]:
            self._ended += one.kill()

    async def ended(self) -> None:
        """Wait for what is left of those that died."""
        await asyncio.gather(*self._ended, return_exceptions=True)

    @property
    def elected(self) -> bool:
        return len(self.all) > 1

    @property
    def leader(self) -> Process:
        """Return who leads and can do so; if nobody does, who may believe so, or the first."""
        leading = [one for one in self.all if one.leads]
        return next((one for one in leading if one.reaches), (leading or self.all)[0])

    @property
    def up(self) -> bool:
        """Return whether somebody leads whom nothing keeps from the API server."""
        return any(one.leads and one.reaches for one in self.all)


@contextmanager
def watched_by(world: World) -> Iterator[None]:
    """Have operators use the world's watches and its time, and verify each signature once."""
    with (
        patch.object(module, "watch", world.watches.watch),
        patch.object(module, "monotonic", world.now),
        patch.object(signing, "verify", verify),
    ):
        yield
