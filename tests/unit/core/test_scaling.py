"""How many pods a pool has: the rule, its limits, and what stands against taking pods away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.core import scaling
from reembed.core.load import Load, Reading, Series
from reembed.core.model import Device, PoolSpec, Problem, Recommendation, Scaling, Variant
from reembed.core.scaling import Crew, Size
from tests import builders as b

WINDOW = timedelta(minutes=5)
IDLE = Reading(memory=0.1, p95=0.0, queue=0.0, busy=0.0, live=0.0)
CPU = Variant("cpu", 1, 10)
GPU = Variant("gpu", 1, 2, Device.GPU)
OVERFLOW = Variant("cpu", 0, 4)


def spec(*variants: Variant, **changes: object) -> PoolSpec:
    return PoolSpec(b.model(), variants or (CPU,), scaling=replace(Scaling(), **changes))  # type: ignore[arg-type]


def load(*readings: Reading, **series: tuple[tuple[float, float], ...]) -> Load:
    named = {f"pod-{number}": one for number, one in enumerate(readings)}
    return Load(readings=named, series=Series(frozenset(named), **series))


def size(
    of: PoolSpec,
    crews: Mapping[str, Crew],
    carried: Load,
    floor: int = 0,
    standing: Sequence[Recommendation] = (),
    seconds: float = 0.0,
) -> Size:
    return scaling.size(of, crews, carried, floor, standing, b.after(seconds))


def all_ready(pods: int) -> dict[str, Crew]:
    return {"cpu": Crew(pods, pods)}


def busy(count: int, **what: float) -> Load:
    return load(*[replace(IDLE, **what) for _ in range(count)])


@pytest.mark.parametrize(
    ("pods", "what", "wanted", "reason"),
    [
        pytest.param(2, {"p95": 0.75}, 3, "Latency", id="p95 half above its target"),
        pytest.param(2, {"p95": 0.54}, 2, "Latency", id="p95 above its target by less than a tenth"),
        pytest.param(2, {"p95": 0.46}, 2, "Latency", id="p95 below its target by less than a tenth"),
        pytest.param(4, {"memory": 0.84}, 5, "Memory", id="memory a fifth above its target"),
        pytest.param(3, {"queue": 16_384 * 1.5}, 5, "Queue", id="queue half above its target"),
        pytest.param(2, {"p95": 0.75, "queue": 16_384 * 2.0}, 4, "Queue", id="the largest of two"),
        pytest.param(1, {"p95": 30.0}, 5, "Latency", id="four more at once at most"),
        pytest.param(5, {"p95": 5.0}, 10, "Latency", id="twice as many at once at most"),
        pytest.param(10, {"p95": 5.0}, 10, "AtMaximum", id="no more than the maximum"),
        pytest.param(1, {}, 1, "Minimum", id="nothing to do"),
    ],
)
def test_pods_come_by_what_the_ready_ones_carry(pods: int, what: dict[str, float], wanted: int, reason: str) -> None:
    found = size(spec(), all_ready(pods), busy(pods, **what))
    assert (found.replicas, found.reason) == ({"cpu": wanted}, reason)


def test_pods_that_start_are_waited_for_before_there_are_more() -> None:
    starting = {"cpu": Crew(5, 1)}
    assert size(spec(), starting, busy(1, p95=30.0)).replicas == {"cpu": 5}


def test_a_reading_says_with_its_target_why_there_are_more() -> None:
    found = size(spec(), all_ready(2), busy(2, p95=0.812))
    assert found.message == "p95 of live requests 812 ms for 500 ms, which needs 4 pods"


def rising(start: float, end: float) -> tuple[tuple[float, float], ...]:
    """Return a minute of a steady rise, a point each ten seconds."""
    return tuple((b.after(10 * n).timestamp(), start + (end - start) * n / 6) for n in range(7))


def test_what_will_be_above_its_target_in_a_minute_is_acted_upon_now() -> None:
    coming = load(*[replace(IDLE, memory=0.66)] * 2, memory=rising(0.5, 0.66))
    found = size(spec(), all_ready(2), coming)
    assert (found.replicas, found.message) == (
        {"cpu": 3},
        "memory 66% of the limit for 70%, and memory 82% of the limit for 70% in a minute, which needs 3 pods",
    )


def test_what_falls_is_not_believed_to_fall_further() -> None:
    falling = load(*[replace(IDLE, p95=0.75)] * 2, p95=rising(2.0, 0.75))
    assert size(spec(), all_ready(2), falling).replicas == {"cpu": 3}


def test_noise_is_no_trend() -> None:
    noisy = tuple((at, 0.3 + 0.2 * (number % 2)) for number, (at, _) in enumerate(rising(0, 1)))
    assert size(spec(), all_ready(2), load(*[replace(IDLE, memory=0.66)] * 2, memory=noisy)).replicas == {"cpu": 2}


@pytest.mark.parametrize(
    ("readings", "wanted"),
    [
        pytest.param([IDLE, IDLE, Reading()], 3, id="no pod goes while one is silent"),
        pytest.param([Reading(), Reading(), Reading()], 3, id="nobody was measured"),
        pytest.param([replace(IDLE, memory=None)] * 3, 3, id="one metric is missing"),
    ],
)
def test_what_is_not_measured_takes_no_pod_away(readings: list[Reading], wanted: int) -> None:
    found = size(spec(scale_down_window=timedelta(0)), all_ready(3), load(*readings))
    assert (found.replicas, found.reason) == ({"cpu": wanted}, "NoMetrics")


@pytest.mark.parametrize("floor", [0, 3])
def test_what_is_not_measured_takes_no_pod_away_that_waits_for_a_node(floor: int) -> None:
    waits = {"cpu": Crew(4, 2, stuck=2)}
    of = spec(Variant("cpu", 2, 4), scale_down_window=timedelta(0))
    found = size(of, waits, load(Reading(), Reading()), floor=floor)
    assert (found.replicas, found.reason) == ({"cpu": 4}, "NoMetrics")


def test_a_silent_pod_counts_as_on_its_target_when_others_ask_for_more() -> None:
    found = size(spec(), all_ready(3), load(*[replace(IDLE, p95=1.0)] * 2, Reading()))
    assert found.replicas == {"cpu": 5}  # 2 + 2 + 1


def test_a_pod_that_came_just_now_has_no_share_yet() -> None:
    came = replace(IDLE, p95=None, busy=None, live=None)
    assert size(spec(), all_ready(4), load(replace(IDLE, p95=1.9), came, came, came)).replicas == {"cpu": 4}


def test_fewer_pods_are_left_only_as_the_work_that_is_done_allows() -> None:
    working = busy(4, p95=0.05, busy=0.5)
    assert size(spec(scale_down_window=timedelta(0)), all_ready(4), working).replicas == {"cpu": 3}


def test_pods_go_when_fewer_were_enough_for_the_whole_window() -> None:
    standing: tuple[Recommendation, ...] = ()
    pods, told = 4, []
    for seconds in range(0, 331, 30):
        found = size(spec(), all_ready(pods), busy(pods), standing=standing, seconds=seconds)
        pods, standing = found.replicas["cpu"], found.standing
        told.append((seconds, pods, found.reason))
    assert told[:1] + told[-3:] == [(0, 4, "Fewer"), (270, 4, "Fewer"), (300, 1, "Minimum"), (330, 1, "Minimum")]
    assert standing == ()


def test_a_restarted_operator_waits_no_longer_and_no_shorter_than_its_predecessor_would_have() -> None:
    standing = (Recommendation("cpu", 4, b.NOON),)
    found = [size(spec(), all_ready(4), busy(4), standing=standing, seconds=at).replicas for at in (299, 300)]
    assert found == [{"cpu": 4}, {"cpu": 1}]


def test_numbers_that_stand_are_written_in_steps() -> None:
    first = size(spec(), all_ready(4), busy(4)).standing
    soon = size(spec(), all_ready(4), busy(4), standing=first, seconds=20).standing
    later = size(spec(), all_ready(4), busy(4), standing=soon, seconds=31).standing
    assert (first == soon, soon == later) == (True, False)


def test_memory_that_an_idle_pod_has_keeps_no_pod() -> None:
    of, pods = spec(scale_down_window=timedelta(0)), busy(3, memory=0.5)
    found = [size(of, all_ready(3), replace(pods, idle=idle)).replicas["cpu"] for idle in (0.0, 0.3, 0.5)]
    assert found == [3, 2, 1]


def test_a_memory_target_near_the_limit_is_acted_upon_before_the_limit() -> None:
    found = [size(spec(memory_target=1.0), all_ready(2), busy(2, memory=at)).replicas for at in (0.98, 0.995)]
    assert found == [{"cpu": 2}, {"cpu": 3}]


def test_a_clock_that_was_set_back_delays_pods_by_one_window_and_drops_none_before() -> None:
    ahead = (Recommendation("cpu", 4, b.after(90_000)),)
    first = size(spec(), all_ready(4), busy(4), standing=ahead)
    blind = size(spec(), all_ready(4), load(), standing=ahead)
    last = [size(spec(), all_ready(4), busy(4), standing=one.standing, seconds=300) for one in (first, blind)]
    assert [one.replicas for one in (first, blind, *last)] == [{"cpu": 4}, {"cpu": 4}, {"cpu": 1}, {"cpu": 1}]


def test_more_pods_do_not_help_where_an_idle_one_is_above_its_memory_target() -> None:
    found = [size(spec(), all_ready(2), replace(busy(2, memory=at), rest=0.8)) for at in (0.8, 0.91, 0.99)]
    assert [(one.wanted, one.reason) for one in found] == [
        ({"cpu": 1}, "Fewer"),
        ({"cpu": 2}, "Memory"),
        ({"cpu": 4}, "Memory"),
    ]
    assert found[2].message == "memory 99% of the limit for 90% (an idle pod has 80%), which needs 4 pods"


def test_a_lowered_maximum_holds_at_once() -> None:
    found = size(spec(Variant("cpu", 1, 2)), all_ready(5), busy(5))
    assert found.replicas == {"cpu": 2}


def test_a_pool_of_fixed_size_keeps_it_whatever_its_pods_carry() -> None:
    found = [size(spec(Variant("cpu", 3, 3)), all_ready(pods), busy(pods, p95=30.0)) for pods in (0, 1, 3, 7)]
    assert [(one.replicas, one.reason, one.standing) for one in found] == [({"cpu": 3}, "Fixed", ())] * 4


@pytest.mark.parametrize(
    ("floor", "wanted", "reason"),
    [
        pytest.param(3, 3, "MigrationNeeds", id="more than is carried"),
        pytest.param(1, 2, "Fewer", id="less than is carried"),
        pytest.param(99, 10, "AtMaximum", id="more than is allowed"),
    ],
)
def test_a_migration_has_what_it_needs_at_once(floor: int, wanted: int, reason: str) -> None:
    found = size(spec(), all_ready(2), busy(2), floor=floor)
    assert (found.replicas, found.reason) == ({"cpu": wanted}, reason)


@pytest.mark.parametrize(
    ("pods", "floor", "wanted"), [(4, 0, 4), (0, 0, 1), (2, 3, 3), (12, 0, 10)], ids=["kept", "began", "needed", "max"]
)
def test_a_paused_pool_keeps_its_pods_but_for_what_must_be(pods: int, floor: int, wanted: int) -> None:
    found = size(spec(paused=True), all_ready(pods), busy(pods, p95=9.0), floor=floor)
    assert (found.replicas, found.reason) == ({"cpu": wanted}, "Paused")


MIXED = spec(GPU, OVERFLOW)


@pytest.mark.parametrize(
    ("crews", "carried", "wanted"),
    [
        pytest.param(
            {"gpu": Crew(1, 1)}, busy(1, p95=0.8), {"gpu": 2, "cpu": 0}, id="the first variant is filled first"
        ),
        pytest.param(
            {"gpu": Crew(2, 2)}, busy(2, p95=0.8), {"gpu": 2, "cpu": 2}, id="what is above its maximum goes on"
        ),
        pytest.param({"gpu": Crew(2, 1)}, busy(1, p95=0.8), {"gpu": 2, "cpu": 0}, id="what starts is waited for"),
        pytest.param(
            {"gpu": Crew(2, 1, stuck=1)}, busy(1, p95=0.8), {"gpu": 2, "cpu": 1}, id="no room for one: another instead"
        ),
        pytest.param({"gpu": Crew(1, 0, stuck=1)}, Load(), {"gpu": 1, "cpu": 1}, id="no room at all"),
        pytest.param(
            {"gpu": Crew(refused=Problem("GpuImageMissing", ""))}, Load(), {"gpu": 0, "cpu": 1}, id="it cannot be run"
        ),
    ],
)
def test_variants_are_filled_in_their_order_and_others_take_what_has_no_room(
    crews: dict[str, Crew], carried: Load, wanted: dict[str, int]
) -> None:
    assert size(MIXED, crews, carried).replicas == wanted


def test_what_took_the_place_of_a_gpu_answers_until_the_gpu_s_pod_is_ready_however_long_that_takes() -> None:
    of = spec(GPU, OVERFLOW, scale_down_window=timedelta(0))
    starting, there = {"gpu": Crew(1, 0), "cpu": Crew(1, 1)}, {"gpu": Crew(1, 1), "cpu": Crew(1, 1)}
    found = [size(of, starting, busy(1)), size(of, there, busy(2))]
    assert [one.replicas for one in found] == [{"gpu": 1, "cpu": 1}, {"gpu": 1, "cpu": 0}]
    assert found[0].message.endswith("1 pod would do, and others go when those that take their place are ready")


def test_a_pod_without_a_node_beyond_those_that_are_ready_takes_none_of_these_away() -> None:
    """A rolling update makes a pod more than there have to be, which a full cluster has no room for."""
    updating = {"cpu": Crew(2, 2, stuck=1)}
    found = size(spec(scale_down_window=timedelta(0)), updating, busy(2, p95=0.5))
    assert found.replicas == {"cpu": 2}


def test_pods_of_a_variant_that_was_renamed_count_until_they_go() -> None:
    """Six of a variant that is no longer there, and the first of the one in its place: together on their target."""
    found = size(spec(), all_ready(1), busy(7, p95=0.5))
    computing = size(spec(), all_ready(1), busy(7, busy=0.6))
    assert (found.replicas, computing.replicas) == ({"cpu": 5}, {"cpu": 5})


def test_what_took_the_place_of_a_gpu_goes_when_one_was_there_for_the_window() -> None:
    both = {"gpu": Crew(2, 2), "cpu": Crew(1, 1)}
    carried = busy(3, p95=0.3)
    first = size(MIXED, both, carried)
    last = size(MIXED, both, carried, standing=first.standing, seconds=300)
    assert (first.replicas, last.replicas) == ({"gpu": 2, "cpu": 1}, {"gpu": 2, "cpu": 0})


def test_every_variant_has_its_minimum() -> None:
    of = spec(Variant("a", 1, 3), Variant("b", 2, 3), Variant("c", 0, 3))
    carried = load(*[replace(IDLE, p95=0.85)] * 3)
    crews = {"a": Crew(1, 1), "b": Crew(2, 2)}
    assert size(of, crews, carried).replicas == {"a": 3, "b": 3, "c": 0}
    assert size(of, {}, Load()).replicas == {"a": 1, "b": 2, "c": 0}


# Any world at all.
_SHARES = st.one_of(st.none(), st.floats(0, 40))
_READINGS = st.builds(
    Reading, _SHARES, _SHARES, st.one_of(st.none(), st.floats(0, 1e6)), st.one_of(st.none(), st.floats(0, 1))
)
_LOADS = st.lists(_READINGS, max_size=6).map(lambda found: load(*found))


@st.composite
def _variants(draw: st.DrawFn) -> tuple[Variant, ...]:
    limits = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=3))
    return tuple(Variant(f"v{n}", low, max(low + more, 1)) for n, (low, more) in enumerate(limits))


@st.composite
def _crews(draw: st.DrawFn) -> dict[str, Crew]:
    found = {}
    for number in range(3):
        desired = draw(st.integers(0, 8))
        ready = draw(st.integers(0, desired))
        found[f"v{number}"] = Crew(desired, ready, draw(st.integers(0, desired - ready)))
    return found


_STANDING = st.lists(
    st.builds(
        Recommendation, st.sampled_from(["v0", "v1", "gone"]), st.integers(0, 9), st.integers(-999, 999).map(b.after)
    ),
    max_size=5,
)


@given(_variants(), _crews(), _LOADS, st.integers(0, 20), _STANDING, st.booleans())
def test_whatever_is_measured_limits_and_floors_hold(
    variants: tuple[Variant, ...],
    crews: dict[str, Crew],
    carried: Load,
    floor: int,
    standing: list[Recommendation],
    paused: bool,
) -> None:
    of = spec(*variants, paused=paused)
    found = size(of, crews, carried, floor, standing)
    assert all(one.min_replicas <= found.replicas[one.name] <= one.max_replicas for one in variants)
    assert sum(found.replicas.values()) >= min(max(floor, scaling.lowest(of)), scaling.highest(of))
    assert len(found.standing) <= sum(one.max_replicas for one in variants)


@given(_variants(), _crews(), _LOADS, st.integers(1, 5))
def test_what_is_not_measured_never_takes_a_pod_away(
    variants: tuple[Variant, ...], crews: dict[str, Crew], carried: Load, silent: int
) -> None:
    of = spec(*variants, scale_down_window=timedelta(0))
    blind = load(*carried.readings.values(), *[Reading()] * silent)
    crews = {name: replace(crew, stuck=0) for name, crew in crews.items()}
    present = sum(min(crews[one.name].desired, one.max_replicas) for one in variants)
    assert sum(size(of, crews, blind).replicas.values()) >= present


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 6)), min_size=1, max_size=40))
def test_pods_are_the_most_that_were_wanted_within_the_window(course: list[tuple[int, int]]) -> None:
    """Compare with a twin that remembers everything; notes may be a tenth of the window behind, and never ahead."""
    of, standing, pods, seconds = spec(Variant("cpu", 1, 6)), (), 1, 0
    asked: list[tuple[int, int]] = []
    for pause, want in course:
        seconds += pause
        # A floor is a number that is wanted, without the rule's tolerance and steps.
        found = size(of, all_ready(pods), busy(pods), floor=want, standing=standing, seconds=seconds)
        pods, standing = found.replicas["cpu"], found.standing
        asked.append((seconds, want))
        # What was wanted counts until a window after the first pass that wanted less.
        ends = [at for at, _ in asked[1:]] + [seconds]
        within = [number for (_, number), end in zip(asked, ends, strict=True) if end > seconds - 300]
        assert max(number for at, number in asked if at > seconds - 270) <= pods <= max(within)
