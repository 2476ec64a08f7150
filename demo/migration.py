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
from demo.judge import Judgement, judge, seconds_until_zero
from demo.kubectl import Failed
from demo.report import Step, progress
from demo.world import NEW_POOL, World

_LONGEST_SECONDS = 900.0  # a migration of the demo that takes longer is stuck
_LOOK_SECONDS = 5.0  # each look starts a few programs on a machine that is busy
_LAST_ANSWERS_SECONDS = 3.0  # queries go on for a moment, so that the end of the migration is judged too
_BEFORE_BACKFILL = frozenset({"", "Preflight"})


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something that goes wrong once, as soon as the migration is as `when` says."""

    name: str
    when: Callable[[Mapping[str, Any]], bool]
    act: Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen of one migration.

    `embedded` counts the documents that the new model's pods embedded; None if pods were lost with what they counted.
    """

    migration: Mapping[str, Any]
    seconds: float
    steps: tuple[Step, ...]
    tally: Mapping[str, Any]
    judgement: Judgement
    embedded: int | None
    memory: measure.Peaks
    until_zero: float | None = None  # seconds from the decision to go back to the last answer at a weight

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
        watching = Watching(world, seen, start, say, [before])
        tasks = [beside.create_task(watching.run()), beside.create_task(watching.count())]
        tasks += [beside.create_task(watching.disturb(disturbance)) for disturbance in disturbances]
        migration = await seen.until_state(*ENDS, seconds=_LONGEST_SECONDS)
        seconds = time.monotonic() - start
        await asyncio.sleep(_LAST_ANSWERS_SECONDS)
        for task in tasks:
            task.cancel()
    tally = await world.stop_load()
    await watching.count_again()
    await watching.look()
    return Outcome(
        migration=migration,
        seconds=seconds,
        steps=tuple(seen.steps()),
        tally=tally,
        judgement=judge(seen.truth, tally["sources"]),
        embedded=watching.embedded,
        memory=watching.memory,
        until_zero=seconds_until_zero(migration, seen.truth, tally["sources"]),
    )


@dataclass(slots=True)
class Watching:
    """What goes on beside a migration: progress is told, memory and documents are counted, and things go wrong.

    `readings` are the new model's counters, the first of them from before the migration.
    """

    world: World
    seen: Follower
    start: float
    say: Callable[[str], None]
    readings: list[measure.Counts]
    embedded: int | None = None
    memory: measure.Peaks = field(default_factory=measure.Peaks)

    async def run(self) -> None:
        while True:
            await self.look()
            with suppress(Failed):
                self._tell(await self.world.tally())
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        with suppress(Failed):  # a look that finds nothing is not worth failing for
            self.memory = await measure.peaks(self.memory, self.world.kubectl)

    async def count(self) -> None:
        """Count as soon as the backfill is over: pods may be lost later, and their counters with them.

        A reading as it begins shows which processes have to be alive at its end.
        """
        await self.seen.until(lambda _: self.seen.state not in _BEFORE_BACKFILL, _LONGEST_SECONDS)
        with suppress(Failed):
            self.readings.append(await measure.embedded_documents(self.world.kubectl, NEW_POOL))
        await self.seen.until(lambda _: self.seen.state not in {*_BEFORE_BACKFILL, "Backfilling"}, _LONGEST_SECONDS)
        await self.count_again()

    async def count_again(self) -> None:
        """Count what was embedded until now; an earlier count stays where pods were lost since."""
        with suppress(Failed):
            self.readings.append(await measure.embedded_documents(self.world.kubectl, NEW_POOL))
            found = measure.embedded(self.readings)
            self.embedded = self.embedded if found is None else found

    async def disturb(self, disturbance: Disturbance) -> None:
        await self.seen.until(disturbance.when, _LONGEST_SECONDS)
        self.say(f"        {disturbance.name}: {await disturbance.act() or 'done'}")

    def _tell(self, tally: Mapping[str, Any]) -> None:
        self.say(progress(time.monotonic() - self.start, self.seen.migration, tally))
