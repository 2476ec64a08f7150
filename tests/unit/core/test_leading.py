"""Two replicas never write at the same time, whatever their clocks, pauses and networks do."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reembed.core.leading import (
    ASK_SECONDS,
    LEASE,
    RENEW_DEADLINE,
    WRITE_SECONDS,
    Record,
    Sight,
    may_write,
    seen,
    taken,
    until_free,
)

HELD = Record("other", transitions=3, version="7")


@pytest.mark.parametrize(
    ("sight", "left"),
    [
        pytest.param(Sight(HELD, 100.0), 15.0, id="another leads"),
        pytest.param(Sight(HELD, 90.0), 5.0, id="another has not renewed for a while"),
        pytest.param(Sight(HELD, 85.0), 0.0, id="another has not renewed for the whole lease"),
        pytest.param(Sight(replace(HELD, holder=""), 100.0), 0.0, id="the last one handed it over"),
        pytest.param(Sight(replace(HELD, holder="me"), 100.0), 0.0, id="the last one was this very pod"),
        pytest.param(Sight(replace(HELD, duration=60.0), 100.0), 60.0, id="a leader of another version has longer"),
        pytest.param(Sight(replace(HELD, duration=1.0), 100.0), 15.0, id="nobody gets a shorter one"),
        pytest.param(Sight(None, 100.0), 15.0, id="somebody deleted it, or there never was a leader"),
    ],
)
def test_how_long_the_lease_is_another_s(sight: Sight, left: float) -> None:
    assert until_free(sight, "me", 100.0) == left


def test_a_lease_that_is_not_there_is_counted_from_the_first_look_that_found_none() -> None:
    assert seen(seen(None, None, 5.0), None, 9.0) == Sight(None, 5.0)


def test_a_lease_is_counted_from_its_last_change_that_was_seen() -> None:
    sight = seen(None, HELD, 5.0)
    renewed = replace(HELD, version="8")
    assert (seen(sight, HELD, 9.0), seen(sight, renewed, 9.0)) == (Sight(HELD, 5.0), Sight(renewed, 9.0))


def test_a_lease_that_vanished_is_counted_from_then() -> None:
    assert seen(Sight(HELD, 5.0), None, 9.0) == Sight(None, 9.0)


@pytest.mark.parametrize(
    ("found", "becomes"),
    [
        pytest.param(None, Record("me"), id="the first leader"),
        pytest.param(HELD, Record("me", 4, version="7"), id="a transition is counted"),
        pytest.param(replace(HELD, holder="me"), Record("me", 3, version="7"), id="to oneself is none"),
    ],
)
def test_what_the_lease_says_once_it_is_taken(found: Record | None, becomes: Record) -> None:
    assert taken(Sight(found, 1.0), "me") == becomes


@pytest.mark.parametrize(("renewed", "may"), [(None, False), (100.0, True), (90.1, True), (90.0, False)])
def test_a_leader_writes_for_the_renew_deadline_after_it_sent_the_last_renewal(
    renewed: float | None, may: bool
) -> None:
    assert may_write(renewed, 100.0) is may


def test_the_last_write_of_a_leader_is_over_before_its_lease_is_by_clocks_seven_percent_apart() -> None:
    assert RENEW_DEADLINE / 0.965 + WRITE_SECONDS < LEASE / 1.035
    assert 3 * ASK_SECONDS < RENEW_DEADLINE  # a lost answer or two do not cost the lead


# Replicas as generators in true time: ("pass", s) lets it pass, ("ask", call, there, back) is a request and ("lose", s)
# one that is lost, ("write", s) is one that arrives after so long and that nobody waits for, ("also", step) begins
# another generator. What a replica counts with is its own clock. It sends what it decided to send without a pause in
# between: what comes later than that is refused by the versions of the objects, not by the lease.

Step = Generator[tuple[Any, ...], Any, None]
Clock = Callable[[], float]


class Lost(Exception):
    """No answer came."""


class Stale(Exception):
    """Compare-and-set failed."""


class Server:
    """The Lease, and the writes of everybody who was not the last to begin to lead."""

    def __init__(self) -> None:
        self.record: Record | None = None
        self.leaders: list[str] = []
        self.intrusions: list[str] = []
        self._version = 0

    def read(self) -> Record | None:
        return self.record

    def swap(self, before: Record | None, after: Record) -> Record:
        if before != self.record:
            raise Stale
        self._version += 1
        self.record = replace(after, version=str(self._version))
        return self.record

    def write(self, by: str) -> None:
        if self.leaders[-1] != by:
            self.intrusions.append(by)


class Term:
    """When the last renewal was sent that was answered; None once the term is over."""

    def __init__(self, sent: float) -> None:
        self.sent: float | None = sent


class Fate:
    """What happens to a replica: spells of good and of bad luck."""

    def __init__(self, seed: int) -> None:
        self._chance = Random(seed)
        self._bad = False

    def pause(self) -> tuple[Any, ...]:
        """Most steps take a moment, some as long as a process that was stopped."""
        if self._chance.random() < 0.1:
            self._bad = not self._bad
        stopped = self._bad and self._chance.random() < 0.2
        return ("pass", self._chance.uniform(1, 40) if stopped else self._chance.uniform(0.1, 1))

    def moment(self) -> tuple[Any, ...]:
        return ("pass", self._chance.uniform(0.05, 0.5))

    def write(self) -> tuple[Any, ...]:
        return ("write", self._chance.choice((0.0, WRITE_SECONDS)))

    def ask(self, call: Callable[[], Any]) -> tuple[Any, ...]:
        there, back = (self._chance.choice((0.01, WRITE_SECONDS / 2 - 0.01)) for _ in range(2))
        return ("lose", WRITE_SECONDS) if self._bad else ("ask", call, there, back)


def replica(name: str, server: Server, fate: Fate, clock: Clock) -> Step:
    """Look for the lease, and lead whenever it can be taken."""
    sight: Sight | None = None
    while True:
        yield fate.pause()
        try:
            sight = seen(sight, (yield fate.ask(server.read)), clock())
            if until_free(sight, name, clock()) > 0:
                continue
            sent, before = clock(), sight.record
            record = yield fate.ask(partial(server.swap, before, taken(sight, name)))
        except (Lost, Stale):
            continue
        if may_write(sent, clock()):
            server.leaders.append(name)
            term = Term(sent)
            yield ("also", write(term, fate, clock))
            yield from renew(term, name, server, fate, clock, record)
            term.sent = None


def renew(term: Term, name: str, server: Server, fate: Fate, clock: Clock, record: Record) -> Step:
    """Keep the lease until that cannot be done any more."""
    while may_write(term.sent, clock()):
        yield fate.pause()
        trying = clock()
        try:
            record = yield fate.ask(partial(server.swap, record, Record(name, record.transitions)))
            term.sent = trying
        except Lost:
            continue
        except Stale:
            return


def write(term: Term, fate: Fate, clock: Clock) -> Step:
    """Write as often as that is allowed."""
    while may_write(term.sent, clock()):
        yield fate.write()
        yield fate.moment()


class World:
    """Lets replicas run in true time."""

    def __init__(self, server: Server) -> None:
        self.now = 0.0
        self._server = server
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def add(self, name: str, fate: Fate, offset: float, speed: float) -> None:
        step = replica(name, self._server, fate, lambda: offset + speed * self.now)
        self._after(0.0, partial(self._go_on, name, step, next))

    def run(self, seconds: float) -> None:
        while self.now < seconds:
            self.now, _, act = heapq.heappop(self._queue)
            act()

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._order), act))

    def _go_on(self, name: str, step: Step, how: Callable[[Step], tuple[Any, ...]]) -> None:
        try:
            wanted = how(step)
        except StopIteration:
            return
        match wanted:
            case ("also", other):
                self._after(0.0, partial(self._go_on, name, other, next))
                self._go_on(name, step, next)
            case ("pass", seconds):
                self._after(seconds, partial(self._go_on, name, step, next))
            case ("write", seconds):
                self._after(seconds, partial(self._server.write, name))
                self._go_on(name, step, next)
            case ("lose", seconds):
                self._after(seconds, partial(self._go_on, name, step, lambda one: one.throw(Lost())))
            case ("ask", call, there, back):
                self._after(there, partial(self._arrive, name, step, call, back))

    def _arrive(self, name: str, step: Step, call: Callable[[], Any], back: float) -> None:
        try:
            answer = call()
        except Stale:
            self._after(back, partial(self._go_on, name, step, lambda one: one.throw(Stale())))
        else:
            self._after(back, partial(self._go_on, name, step, lambda one: one.send(answer)))


def ran(seconds: float, *replicas: tuple[int, float, float]) -> Server:
    """Return what the server saw of replicas, each with its fate and its clock's offset and speed."""
    server = Server()
    world = World(server)
    for name, (seed, offset, speed) in zip("abc", replicas, strict=False):
        world.add(name, Fate(seed), offset, speed)
    world.run(seconds)
    return server


REPLICAS = st.tuples(st.integers(0, 10**6), st.floats(-1e6, 1e6), st.sampled_from([0.97, 1.0, 1.03]))


@settings(max_examples=200, deadline=None)
@given(REPLICAS, REPLICAS, REPLICAS)
def test_no_write_of_a_leader_arrives_after_another_replica_began_to_lead(first: Any, second: Any, third: Any) -> None:
    assert ran(200.0, first, second, third).intrusions == []


def test_in_such_a_world_replicas_take_turns() -> None:
    assert {"a", "b", "c"} == set(ran(1200.0, (1, 0.0, 1.0), (2, 1e5, 1.0), (3, -1e5, 1.0)).leaders)
