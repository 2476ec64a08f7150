"""One migration under steady queries, watched from its apply to its end; shared by the demo and the e2e stories."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from demo import measure
from demo.follow import ENDS, Follower
from demo.judge import Judgement, judge
from demo.kubectl import Failed
from demo.report import Step, progress
from demo.world import NEW_POOL, World

_LONGEST_SECONDS = 900.0  # a migration of the demo that takes longer is stuck
_LOOK_SECONDS = 5.0  # each look starts a few programs on a machine that is busy
_LAST_ANSWERS_SECONDS = 3.0  # queries go on for a moment, so that the end of the migration is judged too


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something that goes wrong once, as soon as the migration is as `when` says."""

    name: str
    when: Callable[[Mapping[str, Any]], bool]
    act: Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen of one migration. `embedded` counts the documents that the new model's living pods embedded."""

    migration: Mapping[str, Any]
    seconds: float
    steps: tuple[Step, ...]
    tally: Mapping[str, Any]
    judgement: Judgement
    embedded: int
    memory: measure.Peaks

    @property
    def state(self) -> str:
        return str(self.migration["status"]["state"])


async def migrate(
    world: World,
    apply: Callable[[], Awaitable[str]],
    disturbances: Sequence[Disturbance] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Apply a migration while the load runs; stop the load when it has ended and return what happened.

    `apply` returns the migration's name.
    """
    before = await measure.embedded_documents(world.kubectl, NEW_POOL)
    start = time.monotonic()
    name = await apply()
    async with Follower(world.kubectl, name) as seen, asyncio.TaskGroup() as beside:
        watching = Watching(world, seen, start, say)
        tasks = [beside.create_task(watching.run())]
        tasks += [beside.create_task(watching.disturb(disturbance)) for disturbance in disturbances]
        migration = await seen.until_state(*ENDS, seconds=_LONGEST_SECONDS)
        seconds = time.monotonic() - start
        await asyncio.sleep(_LAST_ANSWERS_SECONDS)
        for task in tasks:
            task.cancel()
    tally = await world.stop_load()
    return Outcome(
        migration=migration,
        seconds=seconds,
        steps=tuple(seen.steps()),
        tally=tally,
        judgement=judge(seen.truth, tally["sources"]),
        embedded=await measure.embedded_documents(world.kubectl, NEW_POOL) - before,
        memory=await measure.peaks(watching.memory, world.kubectl),
    )


@dataclass(slots=True)
class Watching:
    """What goes on beside a migration: progress is told, memory sampled, and things go wrong."""

    world: World
    seen: Follower
    start: float
    say: Callable[[str], None]
    memory: measure.Peaks = field(default_factory=measure.Peaks)

    async def run(self) -> None:
        while True:
            with suppress(Failed):  # a look that finds nothing is not worth failing for
                self.memory = await measure.peaks(self.memory, self.world.kubectl)
                self._tell(await self.world.tally())
            await asyncio.sleep(_LOOK_SECONDS)

    async def disturb(self, disturbance: Disturbance) -> None:
        await self.seen.until(disturbance.when, _LONGEST_SECONDS)
        self.say(f"        {disturbance.name}: {await disturbance.act() or 'done'}")

    def _tell(self, tally: Mapping[str, Any]) -> None:
        self.say(progress(time.monotonic() - self.start, self.seen.migration, tally))
