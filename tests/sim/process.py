"""The operator's process: the real `Operator`, begun with empty hands, and killed in the middle of anything.

Only kopf is not there: `watching.watch` is replaced by the world's watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from unittest.mock import patch

from reembed.cluster.client import ClusterError
from reembed.controller import operator as module
from reembed.controller.cache import Key
from reembed.controller.loop import Ended, Pass
from reembed.controller.settings import Images, Settings
from reembed.controller.web import Metrics
from tests.sim.api_server import NAMESPACE
from tests.sim.line import Line
from tests.sim.world import World

IMAGES = Images("embedder:1", "gateway:1", "backfill:1", "IfNotPresent")


class Process:
    """One operator after another."""

    def __init__(self, world: World, metrics: Metrics) -> None:
        self._world = world
        self._metrics = metrics
        self._serving: asyncio.Task[None] | None = None
        self._ended: list[asyncio.Task[None]] = []
        self.operator: module.Operator | None = None
        self.started_at = 0.0
        self.lives = 0
        self.passed: dict[Key, float] = {}  # when the last pass of an object ended in this life
        self.problem: Exception | None = None  # what a pass raised that is nobody's weather

    def start(self) -> None:
        world = self._world
        line = Line(world.server, world.weather, world.chances, world.wrote)
        made = module.Operator(line, world, Settings((NAMESPACE,), IMAGES), self._metrics, clock=world.clock)
        made.loops._pass = self._watched(made)
        self.operator, self.started_at, self.passed = made, world.now(), {}
        self.lives += 1
        self._serving = asyncio.create_task(made.run(asyncio.Event()))
        world.happen("operator starts")

    def kill(self) -> None:
        """End it at once; nothing is handed over."""
        if self._serving is not None:
            self._serving.cancel()
            self._ended.append(self._serving)
            self._serving, self.operator = None, None
            self._world.happen("operator dies")

    async def ended(self) -> None:
        """Wait for what is left of those that died."""
        await asyncio.gather(*self._ended, return_exceptions=True)

    @property
    def up(self) -> bool:
        return self.operator is not None

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


@contextmanager
def watched_by(world: World) -> Iterator[None]:
    """Have operators use the world's watches."""
    with patch.object(module, "watch", world.watches.watch):
        yield
