"""What an agent makes of answers, pages and looks, without any pod."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace

import pytest

from reembed.core.load import Load, Reading
from reembed.core.model import External
from reembed.core.quorum.evidence import Loading, PodAnswers, Pods
from reembed.panel import loading, predictions, probes
from reembed.panel.gateways import GatewayLooks
from reembed.panel.retrieval import Half
from reembed.panel.vectors import cosine, finite, nearest
from reembed.stores.protocol import Labels
from tests.builders import NEW, NOON, OLD, after
from tests.evidence import objects


@pytest.mark.parametrize(
    ("seconds", "asked", "pods", "expected"),
    [
        (200, False, ("new-1",), True),
        (301, False, ("new-1",), False),
        (200, True, ("new-1",), False),
        (10, True, ("new-1",), True),
        (10, False, ("new-1", "new-2"), False),
    ],
    ids=["nothing is voted on", "for long", "a vote waits", "it has just been asked", "another pod"],
)
def test_a_hosted_model_is_asked_seldom_while_nothing_is_voted_on(
    seconds: int, asked: bool, pods: tuple[str, ...], expected: bool
) -> None:
    pool = objects().pools["new"]
    hosted = replace(pool, spec=replace(pool.spec, external=External()))
    last = Pods(NOON, {"new-1": PodAnswers()})
    assert probes.spared(hosted, last, pods, after(seconds=seconds), asked=asked) is expected
    assert not probes.spared(pool, last, pods, after(seconds=1), asked=asked)


def vector(*numbers: float) -> bytes:
    return array("f", numbers).tobytes()


def test_the_cosine_of_what_has_none_is_no_number() -> None:
    assert cosine(vector(1, 0), vector(2, 0)) == pytest.approx(1)
    assert cosine(vector(1, 0), vector(0, 2)) == pytest.approx(0)
    assert math.isnan(cosine(vector(0, 0), vector(1, 0)))
    assert math.isnan(cosine(vector(1), vector(1, 0)))
    assert math.isnan(cosine(vector(math.nan, 1), vector(1, 0)))


def test_a_vector_is_finite_and_has_a_direction() -> None:
    assert finite(vector(1, 0))
    assert not any(map(finite, (b"", vector(0, 0), vector(math.inf, 0), vector(math.nan, 1))))


def test_each_text_is_nearest_to_itself_or_it_is_not() -> None:
    both = (vector(1, 0), vector(0, 1))
    assert nearest(both, both) == 1
    assert nearest(both[::-1], both) == 0
    assert nearest((), ()) == 0


def test_probes_follow_from_the_seed_and_nobody_elses() -> None:
    one, same, other = (probes.Prober(None, seed, 1) for seed in (b"a", b"a", b"b"))  # type: ignore[arg-type]
    assert one.texts == same.texts
    assert not set(one.texts) & set(other.texts)
    assert len(set(one.texts)) == len(one.texts)


PAGE = """# HELP reembed_memory_used_bytes Memory.
reembed_memory_used_bytes 6e+08
reembed_memory_limit_bytes 1e+09
reembed_embedder_download_bytes 5e+08
reembed_embedder_download_size_bytes 1e+09
reembed_embedder_download_bound_bytes_per_second +Inf
reembed_embedder_download_breaker{state="closed"} 0
reembed_embedder_download_breaker{state="half_open"} 1
reembed_embedder_validation_accuracy 0.99
reembed_embedder_queue_tokens nonsense
other_series 1
"""


def test_a_page_of_metrics_says_how_the_model_is_fetched() -> None:
    found = loading.samples(PAGE)
    assert "other_series" not in {name for name, _, _ in found}
    before = (100.0, Loading(done=4e8, size=1e9, transient=7e8))
    expected = Loading(
        5e8, 1e9, bytes_per_second=1e7, breaker="half_open", transient=7e8, accuracy=0.99, class_cosine=None
    )
    assert loading.loading(found, before, 110.0) == expected
    assert loading.loading([], None, 110.0) == Loading()


def test_a_file_that_is_here_has_no_rate() -> None:
    done = [("reembed_embedder_download_bytes", {}, 1e9), ("reembed_embedder_download_size_bytes", {}, 1e9)]
    assert loading.loading(done, (0.0, Loading(done=5e8, size=1e9)), 1.0).bytes_per_second is None


def answers(cosines: tuple[bytes, ...], references: tuple[bytes, ...], dimensions: int = 2) -> probes.PodAnswers:
    return probes._judged(cosines, references, dimensions, 0.01, None)


def test_an_answer_is_judged_by_its_dimensions_its_numbers_and_what_it_was_before() -> None:
    both = (vector(1, 0), vector(0, 1))
    assert answers((*both, vector(1, 1)), both).cosine == pytest.approx(1)
    assert answers((*both, vector(1, 1)), both).texts == 3
    assert answers(both, ()).cosine is None
    assert "2 dimensions, the pool's spec says 3" in answers(both, both, 3).problem
    assert "not finite" in answers((vector(math.nan, 0), both[1]), both).problem
    assert answers((both[1], both[1]), both).cosine == pytest.approx(0)


def test_a_share_is_followed_since_the_look_before_it_was() -> None:
    looks = GatewayLooks(None, 1)  # type: ignore[arg-type]

    def look(seconds: float, weight: int, *, follows: bool = True) -> float | None:
        looks._follow(objects(weight).index, after(seconds), follows=follows)
        since = looks._followed.since if looks._followed is not None else None
        return (since - NOON).total_seconds() if since is not None else None

    assert look(0, 10, follows=False) is None
    assert look(10, 10) == 0
    assert look(20, 10) == 0
    assert look(30, 50) == 20
    assert look(40, 50, follows=False) is None
    assert look(50, 50) == 40


def test_who_begins_in_the_middle_counts_from_its_first_look() -> None:
    looks = GatewayLooks(None, 1)  # type: ignore[arg-type]
    looks._follow(objects(10).index, after(5), follows=True)
    assert looks._followed is not None
    assert looks._followed.since == after(5)


def test_queries_are_measured_once_and_then_the_oldest_again() -> None:
    queries = ("a", "b", "c")
    half = Half((OLD, NEW), Labels({one: frozenset("1") for one in queries}, 0), NOON, queries)
    assert half.due(NOON) == ["a", "b", "c"]
    half.measured = {"a": (after(0), 0.1), "b": (after(60), 0.0)}
    assert half.due(after(120)) == ["c"]
    half.measured["c"] = (after(120), -0.1)
    assert half.due(after(180)) == []
    assert half.due(after(961)) == ["a", "b"]
    told = half.told()
    assert (told.at, told.asked, told.labelled, told.differences) == (NOON, 3, 3, (0.1, 0.0, -0.1))


def loaded(p95: float, rate: float) -> dict[str, Pods]:
    return {"new": Pods(NOON, {}, Load(readings={"new-1": Reading(p95=p95, live=rate)}))}


def test_what_is_predicted_of_a_share_comes_from_the_one_before() -> None:
    learner = predictions.Predictions()
    assert learner.told is None
    learner.add(objects(0), loaded(0.01, 0.0))
    learner.add(objects(10), loaded(0.02, 5.0))
    assert learner.told is not None
    assert learner.told.predicted_p95 is None
    learner.add(objects(50), loaded(0.03, 24.0))
    found = learner.told
    assert (found.weight, found.predicted_p95, found.seen_p95) == (50, 0.02, 0.03)
    assert (found.predicted_rate, found.seen_rate) == (25.0, 24.0)


def test_a_candidate_that_is_gone_leaves_no_prediction() -> None:
    learner = predictions.Predictions()
    learner.add(objects(10), loaded(0.02, 5.0))
    nobody = objects(0)
    routing = replace(nobody.index.status.routing, candidate=None)
    learner.add(replace(nobody, index=replace(nobody.index, status=replace(nobody.index.status, routing=routing))), {})
    assert learner.told is None
