"""What callers see is told from a gateway's page of figures, for the time since it was last asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from reembed.backfill.queries import CallersQueries


@dataclass
class Gateway:
    """Its page: answers by the bucket of their time, in seconds."""

    process: float = 1.0
    counts: dict[float, int] = field(default_factory=lambda: {0.05: 0, 0.5: 0})
    probes: int = 0

    def page(self) -> bytes:
        lines, total = [f"process_start_time_seconds {self.process}"], 0
        for bound, count in self.counts.items():
            total += count
            lines.append(self._line("old", "false", str(bound), total))
        lines += [self._line("old", "false", "+Inf", total), self._line("old", "true", "+Inf", self.probes)]
        return "\n".join(["# HELP something else", "other_total 3", *lines, ""]).encode()

    def _line(self, collection: str, probe: str, bound: str, count: int) -> str:
        labels = f'collection="{collection}",probe="{probe}",le="{bound}"'
        return f"reembed_gateway_arm_seconds_bucket{{{labels}}} {count}"


@dataclass
class World:
    """A gateway, and a clock that stands until it is moved."""

    gateway: Gateway = field(default_factory=Gateway)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.queries = CallersQueries("http://gateway", lambda: self.now)

    def p95(self, fast: int = 0, slow: int = 0) -> float | None:
        """Let callers be answered, and ask what they saw."""
        self.gateway.counts[0.05] += fast
        self.gateway.counts[0.5] += slow
        self.queries.saw(self.gateway.page())
        return self.queries.p95()


@pytest.fixture
def world() -> World:
    made = World()
    made.p95(fast=10_000)
    return made


def test_what_was_before_the_first_look_is_nobodys_fault(world: World) -> None:
    assert world.p95(slow=19) is None


def test_each_figure_is_of_the_answers_since_the_last_one(world: World) -> None:
    assert world.p95(slow=100) == pytest.approx(0.4775)
    assert world.p95(fast=100) == pytest.approx(0.0475)


def test_answers_are_gathered_until_they_are_enough(world: World) -> None:
    assert [world.p95(fast=12), world.p95(fast=12)] == [None, pytest.approx(0.0475)]


def test_where_hardly_anybody_asks_nobody_suffers(world: World) -> None:
    world.now = 60.0
    assert world.p95(slow=3) == 0.0


def test_probes_are_no_callers(world: World) -> None:
    world.gateway.probes = 1_000
    assert world.p95() is None


def test_another_gateway_begins_anew(world: World) -> None:
    world.gateway = Gateway(process=2.0, counts={0.05: 0, 0.5: 500})
    assert [world.p95(), world.p95(fast=50)] == [None, pytest.approx(0.0475)]


def test_as_long_as_no_gateway_answered_there_is_nothing_to_tell() -> None:
    assert CallersQueries("http://gateway", lambda: 1e6).p95() is None


def test_a_gateway_that_answers_no_more_says_nothing_new(world: World) -> None:
    world.p95(slow=100)
    assert world.queries.p95() is None
