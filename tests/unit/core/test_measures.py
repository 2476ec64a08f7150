"""Two scrapes become errors and p95; restarts, several pods and silence do not fool them."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.core.measures import ARM_REQUESTS, ARM_SECONDS, Counters, Counts, Since, Window, counted, p95
from reembed.core.model import ArmMeasure

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def live(ok: int, errors: int = 0) -> Counters:
    """Answers that all took between 0.1 and 0.2 seconds."""
    return Counters(live=Counts(ok, errors, {0.1: 0, 0.2: ok, math.inf: ok}))


def probes(ok: int, errors: int = 0) -> Counters:
    return Counters(probes=live(ok, errors).live)


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def whole(measure: ArmMeasure | None) -> ArmMeasure | None:
    """Leave out what was measured of the last part of the window."""
    return replace(measure, lately=None) if measure is not None else None


def test_what_was_counted_between_two_scrapes_is_measured() -> None:
    window = Window().add({"a": live(1000, 7)}, at(0)).add({"a": live(1100, 12)}, at(2))
    assert whole(window.live()) == ArmMeasure(requests=105, errors=5, p95=seconds(0.195))


def test_the_first_scrape_of_a_pod_is_only_a_mark() -> None:
    assert Window().add({"a": live(1000, 500)}, at(0)).live() is None


def test_several_pods_are_summed() -> None:
    window = Window().add({"a": live(0), "b": live(50)}, at(0)).add({"a": live(30), "b": live(80, 4)}, at(2))
    assert whole(window.live()) == ArmMeasure(requests=64, errors=4, p95=seconds(0.195))


def test_a_restarted_pod_counts_from_zero() -> None:
    window = Window().add({"a": live(1000, 7)}, at(0)).add({"a": live(40, 1)}, at(2))
    assert whole(window.live()) == ArmMeasure(requests=41, errors=1, p95=seconds(0.195))


def test_a_restart_is_seen_although_live_traffic_has_overtaken_its_old_count() -> None:
    before = Counters(live=Counts(ok=3), probes=Counts(ok=100))
    after = Counters(live=Counts(ok=25), probes=Counts(ok=1))
    assert after.since(before) == after


def test_a_pod_that_did_not_answer_one_scrape_loses_nothing() -> None:
    window = Window().add({"a": live(0)}, at(0)).add({}, at(2)).add({"a": live(40)}, at(4))
    assert whole(window.live()) == ArmMeasure(requests=40, errors=0, p95=seconds(0.195))


def test_what_is_older_than_the_window_is_forgotten() -> None:
    window = Window().add({"a": live(0, 0)}, at(0)).add({"a": live(0, 900)}, at(2))
    assert window.add({"a": live(30, 900)}, at(62)).live() == ArmMeasure(30, 0, seconds(0.195))


def test_what_was_lately_is_the_last_third_of_the_window() -> None:
    window = Window()
    for second in range(0, 61, 2):
        window = window.add({"a": live(10 * second, min(second, 30))}, at(second))
    measure = window.live()
    assert measure is not None
    assert (measure.requests, measure.errors, measure.lately) == (630, 30, ArmMeasure(200, 0, seconds(0.195)))


def test_the_probes_of_one_gateway_are_enough_to_judge_an_arm_that_nobody_asks() -> None:
    window = Window()
    for second in range(0, 121, 2):
        window = window.add({"a": slow_probes(second // 5)}, at(second))
    judged, probed = window.judged(), window.probes()
    assert judged is not None
    assert probed is not None
    assert (judged.requests, judged.p95 is not None, probed.requests) == (24, True, 12)


def slow_probes(answers: int) -> Counters:
    return Counters(probes=Counts(ok=answers, buckets={0.05: answers, math.inf: answers}))


def test_a_pod_that_is_gone_leaves_no_trace() -> None:
    window = Window().add({"a": live(0)}, at(0)).add({"a": live(90)}, at(2)).add({}, at(130))
    assert window == Window()


def test_adding_leaves_the_window_that_a_pass_judged_by_as_it_was() -> None:
    window = Window().add({"a": live(0)}, at(0))
    window.add({"a": live(90)}, at(2))
    assert window == Window().add({"a": live(0)}, at(0))


def test_callers_and_probes_are_told_apart() -> None:
    both = Counters(live=live(1, 2).live, probes=probes(24).probes)
    window = Window().add({"a": Counters()}, at(0)).add({"a": both}, at(2))
    assert (whole(window.live()), whole(window.probes())) == (ArmMeasure(3, 2, None), ArmMeasure(24, 0, seconds(0.195)))


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({0.1: 19, math.inf: 19}, None, id="one answer too few"),
        pytest.param({0.1: 20, math.inf: 20}, seconds(0.095), id="inside the first bucket"),
        pytest.param({0.1: 90, 0.2: 100, math.inf: 100}, seconds(0.15), id="half of the second bucket"),
        pytest.param({0.1: 95, 0.2: 100, math.inf: 100}, seconds(0.1), id="exactly on a bound"),
        pytest.param({0.1: 0, 0.2: 50, math.inf: 100}, seconds(0.2), id="above the last bound"),
    ],
)
def test_p95_is_linear_inside_its_bucket(buckets: dict[float, int], expected: timedelta | None) -> None:
    assert p95(buckets) == expected


@given(st.lists(st.floats(0.0005, 29), min_size=20, max_size=200))
def test_p95_lies_in_the_bucket_of_the_true_percentile(answers: list[float]) -> None:
    bounds = [0.001, 0.01, 0.1, 1.0, 10.0, 30.0]
    found = p95({bound: sum(a <= bound for a in answers) for bound in bounds} | {math.inf: len(answers)})
    true = sorted(answers)[math.ceil(0.95 * len(answers)) - 1]
    upper = min(bound for bound in bounds if true <= bound)
    lower = max([0.0] + [bound for bound in bounds if bound < true])
    assert found is not None
    assert lower <= found.total_seconds() <= upper


def test_a_scrape_is_sorted_by_collection_and_by_who_asked() -> None:
    requests, bucket = f"{ARM_REQUESTS}_total", f"{ARM_SECONDS}_bucket"
    found = counted(
        [
            ("reembed_gateway_epoch", {}, 4.0),
            (requests, {"collection": "c_new", "outcome": "ok", "probe": "false"}, 5.0),
            (requests, {"collection": "c_new", "outcome": "error", "probe": "false"}, 2.0),
            (requests, {"collection": "c_new", "outcome": "dropped", "probe": "false"}, 9.0),
            (requests, {"collection": "c_new", "outcome": "ok", "probe": "true"}, 3.0),
            (requests, {"collection": "c_old", "outcome": "ok", "probe": "false"}, 8.0),
            (bucket, {"collection": "c_new", "probe": "false", "le": "0.1"}, 4.0),
            (bucket, {"collection": "c_new", "probe": "false", "le": "+Inf"}, 5.0),
        ]
    )
    assert found == {
        "c_new": Counters(Counts(5, 2, {0.1: 4, math.inf: 5}), Counts(ok=3)),
        "c_old": Counters(Counts(ok=8)),
    }


@pytest.mark.parametrize(
    ("callers", "expected"),
    [
        pytest.param(live(18, 2), ArmMeasure(20, 2, None), id="enough callers are judged alone"),
        pytest.param(live(17, 2), ArmMeasure(43, 26, None), id="too few callers are judged with the probes"),
    ],
)
def test_probes_stand_in_for_missing_callers(callers: Counters, expected: ArmMeasure) -> None:
    both = Counters(live=callers.live, probes=probes(0, 24).probes)
    assert whole(Window().add({"a": Counters()}, at(0)).add({"a": both}, at(2)).judged()) == expected


def answers(ok: int) -> Counters:
    return Counters(live=Counts(ok=ok), probes=Counts(ok=7))


def test_what_is_counted_since_a_mark_leaves_out_what_was_before_it_and_probes() -> None:
    since = Since().add({"a": answers(1000)}).add({"a": answers(1010)}).add({"a": answers(1025)})
    assert since.counts == Counts(ok=25)


def test_a_pod_that_restarts_or_comes_later_is_counted_from_its_own_mark() -> None:
    since = Since().add({"a": answers(1000)}).add({"a": answers(5), "b": answers(300)}).add({"b": answers(310)})
    assert since.counts == Counts(ok=5 + 10)


def test_a_lost_scrape_loses_nothing() -> None:
    since = Since().add({"a": answers(1000)}).add({}).add({"a": answers(1030)})
    assert since.counts == Counts(ok=30)


def test_a_clock_that_was_set_back_does_not_make_the_window_longer() -> None:
    window = Window()
    for second in range(0, 60, 2):
        window = window.add({"a": live(second, second)}, at(3600 + second))
    for second in range(0, 80, 2):
        window = window.add({"a": live(60 + second, 58)}, at(second))
    measure = window.live()
    assert measure is not None
    assert measure.errors == 0


@pytest.mark.parametrize("bound", ["NaN", "1e300", "-1", "soon"])
def test_a_bucket_that_no_answer_falls_into_is_passed_over(bound: str) -> None:
    lines = [(f"{ARM_SECONDS}_bucket", {"collection": "c_new", "le": one}, 30.0) for one in (bound, "0.1", "+Inf")]
    assert counted(lines)["c_new"].live.buckets == {0.1: 30, math.inf: 30}
