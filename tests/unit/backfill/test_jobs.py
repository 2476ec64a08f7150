"""Long work runs once, is given up for other work on the same thing, and rests after a failure."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from reembed.backfill.jobs import Jobs, problem_of
from reembed.core.model import Problem
from reembed.stores.protocol import StoreError, StoreUnavailable, Unfit


@dataclass
class World:
    """A clock that is set by hand and work that is noted when it starts and ends."""

    now: float = 0.0
    seen: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    async def endless(self) -> None:
        self.seen.append("started")
        try:
            await asyncio.Event().wait()
        finally:
            self.seen.append("ended")

    async def short(self) -> None:
        self.seen.append("short")

    async def failing(self) -> None:
        self.seen.append("failed")
        raise StoreUnavailable("gone")


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_work_that_runs_is_not_started_again() -> None:
    world = World()
    jobs = Jobs(world.clock)
    for _ in range(3):
        jobs.ask("c", "index", world.endless)
        await settled()
    await jobs.stop()
    assert world.seen == ["started", "ended"]


async def test_other_work_on_the_same_thing_takes_its_place() -> None:
    world = World()
    jobs = Jobs(world.clock)
    jobs.ask("c", "index", world.endless)
    await settled()
    for _ in range(2):
        jobs.ask("c", "withdraw", world.short)
        await settled()
    assert world.seen == ["started", "ended", "short"]


async def test_failed_work_rests_and_its_problem_stays_until_it_succeeds() -> None:
    world = World()
    jobs = Jobs(world.clock)
    jobs.ask("c", "index", world.failing)
    await settled()
    jobs.ask("c", "index", world.failing)
    await settled()
    problems = dict(jobs.problems)
    world.now = 6.0
    jobs.ask("c", "index", world.short)
    await settled()
    assert (world.seen, problems, jobs.problems) == (
        ["failed", "short"],
        {"c": Problem("StoreUnreachable", "gone")},
        {},
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(Unfit(Problem("IndexBuildFailed", "why")), Problem("IndexBuildFailed", "why"), id="its own"),
        pytest.param(StoreUnavailable("gone"), Problem("StoreUnreachable", "gone"), id="unreachable"),
        pytest.param(StoreError("no"), Problem("StoreRefused", "no"), id="refused"),
        pytest.param(
            KeyError("password"),
            Problem("WorkerFailed", "KeyError in the store worker; it is tried again, its log has more"),
            id="a bug, without its text",
        ),
    ],
)
def test_an_error_becomes_a_problem(error: Exception, expected: Problem) -> None:
    assert problem_of(error) == expected
