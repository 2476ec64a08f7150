"""Whatever restarts, comes later or misses a scrape: nothing is counted twice, and nothing seen is left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.core.measures import (
    ARM_REQUESTS,
    ARM_SECONDS,
    PROCESS,
    SHADOW,
    SHADOW_OVERLAP,
    SHADOW_OVERLAP_SQUARES,
    Compared,
    Comparisons,
    Counters,
    Counts,
    Scraped,
    Since,
    Window,
    counted,
    overlaps,
)
from reembed.core.model import ArmMeasure
from reembed.core.sequences import Sample

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BOUNDS = (0.1, 1.0, math.inf)
PODS = ("a", "b", "c")


@dataclass(frozen=True)
class Query:
    """One answered query, and how alike the other side's answer was."""

    failed: bool
    seconds: float
    overlap: float


@dataclass
class Pod:
    """A gateway: what this life of its process counted, what no scrape has seen yet, and whether any has seen it."""

    life: int = 1
    told: list[Query] = field(default_factory=list)
    unseen: list[Query] = field(default_factory=list)
    marked: bool = False

    def restart(self) -> None:
        self.life, self.told, self.unseen = self.life + 1, [], []

    def answer(self, query: Query) -> None:
        self.told.append(query)
        self.unseen.append(query)

    def scraped(self) -> list[Query]:
        """Return what the scrape has to add."""
        new, self.unseen = self.unseen if self.marked else [], []
        self.marked = True
        return new


def counts(queries: list[Query]) -> Counts:
    buckets = {bound: sum(query.seconds <= bound for query in queries) for bound in BOUNDS}
    failed = sum(query.failed for query in queries)
    return Counts(len(queries) - failed, failed, buckets)


def sample(queries: list[Query]) -> Sample:
    return Sample.of(query.overlap for query in queries)


queries = st.builds(Query, st.booleans(), st.sampled_from((0.05, 0.5, 5.0)), st.sampled_from((0.0, 0.25, 0.5, 1.0)))
pods = st.sampled_from(PODS)
happenings = st.lists(
    st.one_of(
        st.tuples(st.just("answer"), pods, queries),
        st.tuples(st.just("restart"), pods, st.none()),
        st.tuples(st.just("scrape"), st.frozensets(pods), st.none()),  # others did not answer it
    ),
    max_size=60,
)
Happenings = list[tuple[str, object, Query | None]]


def lived(events: Happenings, scrape: Callable[[dict[str, Pod]], None]) -> list[Query]:
    """Let the events happen, hand each scrape to `scrape`, and return the queries that scrapes could tell of."""
    world, seen = {name: Pod() for name in PODS}, []
    for kind, where, query in events:
        if kind == "scrape":
            answered = {name: world[name] for name in sorted(where)}  # type: ignore[call-overload]
            scrape(answered)
            seen += [query for pod in answered.values() for query in pod.scraped()]
        elif kind == "restart":
            world[str(where)].restart()
        elif query is not None:
            world[str(where)].answer(query)
    return seen


@given(happenings)
def test_what_callers_saw_since_a_mark_is_what_scrapes_could_tell(events: Happenings) -> None:
    since = Since()

    def scrape(answered: dict[str, Pod]) -> None:
        nonlocal since
        since = since.add({name: Counters(counts(pod.told), process=pod.life) for name, pod in answered.items()})

    true = counts(lived(events, scrape))
    assert since.counts.plus(counts([])) == true  # with the buckets that an empty count has not


@given(happenings)
def test_where_a_process_does_not_say_when_it_began_never_too_much_is_counted(events: Happenings) -> None:
    since = Since()

    def scrape(answered: dict[str, Pod]) -> None:
        nonlocal since
        since = since.add({name: Counters(counts(pod.told)) for name, pod in answered.items()})

    true = counts(lived(events, scrape))
    assert true.minus(since.counts).smallest >= 0


@given(happenings)
def test_overlaps_since_a_mark_are_those_of_what_scrapes_could_tell(events: Happenings) -> None:
    compared = Compared()

    def scrape(answered: dict[str, Pod]) -> None:
        nonlocal compared
        compared = compared.add({name: Comparisons(sample(pod.told), pod.life) for name, pod in answered.items()})

    true = sample(lived(events, scrape))
    assert rounded(compared.sample) == rounded(true)


@given(happenings)
def test_a_window_that_is_long_enough_counts_the_same(events: Happenings) -> None:
    window = Window(timedelta(days=1))

    def scrape(answered: dict[str, Pod]) -> None:
        nonlocal window
        scraped = {name: Counters(counts(pod.told), process=pod.life) for name, pod in answered.items()}
        window = window.add(scraped, (window.looked or NOON) + timedelta(seconds=2))

    true = counts(lived(events, scrape))
    live = window.live() or ArmMeasure(0, 0, None)
    assert (live.requests, live.errors) == (true.ok + true.errors, true.errors)


def rounded(found: Sample) -> tuple[float, ...]:
    return found.count, round(found.total, 9), round(found.squares, 9)


def test_a_process_that_counted_more_than_the_one_before_it_is_still_another_one() -> None:
    few, many = Comparisons(Sample(3, 0.5, 0.1), 1000.0), Comparisons(Sample(5, 4.5, 4.2), 2000.0)
    assert Compared().add({"a": few}).add({"a": many}).sample == many.overlap
    one, ten = (
        Counters(Counts(1, 1, {math.inf: 2}), process=1000.0),
        Counters(Counts(10, 2, {math.inf: 12}), process=2000.0),
    )
    assert Since().add({"a": one}).add({"a": ten}).counts == ten.live


def test_a_sum_that_shrank_tells_of_a_restart_where_the_process_does_not() -> None:
    high, low = Comparisons(Sample(3, 3.0, 3.0)), Comparisons(Sample(5, 1.0, 0.5))
    assert Compared().add({"a": high}).add({"a": low}).sample == low.overlap


def lines(process: float = 1.7e9) -> list[Scraped]:
    """Return what a gateway tells of a candidate, and some that must not disturb."""
    pair = {"serving": "c_old", "candidate": "c_new"}
    return [
        (PROCESS, {}, process),
        (f"{SHADOW}_total", {**pair, "outcome": "compared"}, 10.0),
        (f"{SHADOW}_total", {**pair, "outcome": "failed"}, 99.0),
        (f"{SHADOW}_created", {**pair, "outcome": "compared"}, 1.7e9),
        (f"{SHADOW_OVERLAP}_total", pair, 7.5),
        (f"{SHADOW_OVERLAP_SQUARES}_total", pair, 6.25),
        (f"{ARM_REQUESTS}_total", {"collection": "c_new", "outcome": "ok", "probe": "false"}, 4.0),
        (f"{ARM_SECONDS}_bucket", {"collection": "c_new", "probe": "false", "le": "+Inf"}, 4.0),
    ]


def test_a_scrape_is_read_with_the_begin_of_its_process() -> None:
    assert overlaps(lines()) == {"c_new": Comparisons(Sample(10, 7.5, 6.25), 1.7e9)}
    assert counted(lines()) == {"c_new": Counters(Counts(4, 0, {math.inf: 4}), process=1.7e9)}


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param((f"{SHADOW}_total", {"outcome": "compared"}, 3.0), id="no candidate"),
        pytest.param((f"{SHADOW}_total", {"candidate": "c_new"}, 3.0), id="no outcome"),
        pytest.param((f"{SHADOW_OVERLAP}_total", {"candidate": "c_new"}, math.nan), id="an overlap that is no number"),
        pytest.param(
            (f"{SHADOW}_total", {"candidate": "c_new", "outcome": "compared"}, math.inf), id="a count without end"
        ),
        pytest.param((f"{ARM_REQUESTS}_total", {"outcome": "ok"}, 3.0), id="no collection"),
        pytest.param((f"{ARM_REQUESTS}_total", {"collection": "c_new", "outcome": "ok"}, math.nan), id="no count"),
        pytest.param((f"{ARM_SECONDS}_bucket", {"collection": "c_new"}, 3.0), id="no bound"),
        pytest.param((f"{ARM_SECONDS}_bucket", {"collection": "c_new", "le": "much"}, 3.0), id="a bound in words"),
        pytest.param((PROCESS, {}, math.nan), id="a process that began at no time"),
    ],
)
def test_a_line_that_says_nothing_is_passed_over(strange: Scraped) -> None:
    assert (overlaps([*lines(), strange]), counted([*lines(), strange])) == (overlaps(lines()), counted(lines()))
