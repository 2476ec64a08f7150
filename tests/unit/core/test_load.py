"""What pods carry is told from two looks, and what was not measured is told from nothing to do."""

from __future__ import annotations

import math

import pytest

from reembed.core.load import Load, Reading, Sampled, sampled
from tests import builders as b

LIVE, BACKGROUND = {"priority": "live"}, {"priority": "background"}


def scraped(live: int, slow: int = 0, background: int = 0, **more: float) -> list[tuple[str, dict[str, str], float]]:
    name = "reembed_embedder_request_seconds_bucket"
    values = {"queue_tokens": 100.0, "pack_tokens_total": live * 10.0, "pack_seconds_total": live / 100} | more
    return [
        (name, {**LIVE, "le": "0.1"}, float(live - slow)),
        (name, {**LIVE, "le": "2.5"}, float(live)),
        (name, {**LIVE, "le": "+Inf"}, float(live)),
        (name, {**BACKGROUND, "le": "0.1"}, 0.0),
        (name, {**BACKGROUND, "le": "+Inf"}, float(background)),
        ("reembed_embedder_texts_total", {**LIVE, "input_type": "Query"}, float(live)),
        ("reembed_embedder_texts_total", {**BACKGROUND, "input_type": "Document"}, float(background)),
        ("reembed_embedder_tokens_total", {}, (live + background) * 12.0),
        ("reembed_embedder_contexts_peak", {}, 2.0),
        ("reembed_memory_used_bytes", {}, 300.0),
        ("reembed_memory_limit_bytes", {}, 1000.0),
        ("reembed_memory_mapped_bytes", {}, 400.0),
        *((f"reembed_embedder_{key}", {}, value) for key, value in values.items()),
        ("process_start_time_seconds", {}, 1.0),
    ]


def look(load: Load, seconds: float, **pods: Sampled) -> Load:
    return load.add({name: one for name, one in pods.items() if one is not None}, pods, b.after(seconds))


def test_a_reading_is_of_live_requests_between_two_looks() -> None:
    load = look(Load(), 0, a=sampled(scraped(1000)))
    load = look(load, 20, a=sampled(scraped(1100, slow=50, background=9000)))
    assert load.readings == {"a": Reading(memory=0.5, p95=2.26, queue=100.0, busy=0.025, live=5.0)}
    assert (load.speed, load.peak, load.tokens_a_text) == (2000.0, 5.0, 12.0)


def test_too_few_requests_are_no_latency_and_no_pod_is_slow_by_them() -> None:
    load = look(look(Load(), 0, a=sampled(scraped(0))), 20, a=sampled(scraped(3, slow=3)))
    assert load.readings["a"].p95 == 0.0


def test_a_pod_that_was_seen_once_or_is_silent_has_no_latency() -> None:
    once = look(Load(), 0, a=sampled(scraped(100)))
    silent = once.add({}, {"a", "b"}, b.after(30))
    assert (once.readings["a"].p95, silent.readings) == (None, {"a": Reading(), "b": Reading()})


def test_a_process_that_began_anew_is_counted_from_there() -> None:
    load = look(Load(), 0, a=sampled(scraped(1000)))
    load = look(load, 10, a=sampled([*scraped(5), ("process_start_time_seconds", {}, 9.0)]))
    assert load.readings["a"].live is None


def test_counts_that_fall_are_of_a_process_that_began_anew_whether_it_says_so_or_not() -> None:
    load = look(Load(), 0, a=sampled(scraped(1000)))
    assert look(load, 10, a=sampled(scraped(5))).readings["a"].p95 is None


def test_a_few_seconds_are_no_rate() -> None:
    load = look(look(Load(), 0, a=sampled(scraped(0))), 4, a=sampled(scraped(2000)))
    assert (load.readings["a"].live, load.peak) == (None, 0.0)


def test_what_a_pod_has_when_it_computes_nothing_is_known_from_then_on() -> None:
    found, load = [], Load()
    course = [(0, 0, 0.9), (5, 10, 0.9), (10, 10, 0.6), (15, 10, 0.5), (20, 30, 0.4), (25, 30, 0.8)]
    for seconds, live, share in course:
        memory = ("reembed_memory_used_bytes", {}, 600 * share)
        load = look(load, seconds, a=sampled([*scraped(live, queue_tokens=0.0), memory]))
        found.append(load.rest)
    assert found == [None, None, 0.6, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("value", [-1.0, 1e300, math.inf], ids=["negative", "huge", "infinite"])
def test_a_pod_that_reports_nonsense_is_not_measured_and_breaks_nothing(value: float) -> None:
    said = [(name, labels, value) for name, labels, _ in scraped(1)]
    bounds = ("reembed_embedder_request_seconds_bucket", {**LIVE, "le": "1e300"}, 50.0)
    ends = ("reembed_embedder_request_seconds_bucket", {**LIVE, "le": "+Inf"}, 50.0)
    load = look(look(Load(), 0, a=sampled(said)), 20, a=sampled([*said, bounds, ends]))
    assert load.readings["a"] == Reading(memory=None, p95=0.0, queue=None, busy=0.0, live=0.0)


def test_the_trend_begins_anew_with_every_pod_that_comes() -> None:
    load = look(look(Load(), 0, a=sampled(scraped(10))), 5, a=sampled(scraped(20)))
    more = look(load, 10, a=sampled(scraped(30)), b=sampled(scraped(1)))
    assert (len(load.series.memory), len(more.series.memory)) == (2, 1)


def test_the_peak_is_that_of_the_last_hour() -> None:
    load = look(look(Load(), 0, a=sampled(scraped(0))), 20, a=sampled(scraped(2000)))
    load = look(load, 1000, a=sampled(scraped(2000)))
    later = look(look(load, 1010, a=sampled(scraped(2010))), 3700, a=sampled(scraped(2010)))
    later = look(later, 3710, a=sampled(scraped(2020)))
    assert (load.peak, later.peak) == (100.0, 1.0)


def test_what_a_page_lacks_or_says_in_nonsense_is_not_measured() -> None:
    nonsense = [
        ("reembed_embedder_request_seconds_bucket", {"le": "soon"}, 5.0),
        ("reembed_embedder_queue_tokens", {}, math.nan),
        ("reembed_memory_used_bytes", {}, 5.0),
        ("reembed_memory_limit_bytes", {}, 5.0),
        ("reembed_memory_mapped_bytes", {}, 5.0),
    ]
    assert (sampled([]), sampled(nonsense)) == (Sampled(), Sampled())
