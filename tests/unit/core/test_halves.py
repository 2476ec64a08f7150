"""An agent's half is its own and its bound is that of the gates' bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reembed.core import gates
from reembed.core.quorum.halves import LEVEL, digest, digest_of_labels, lower_bound, own_half

QUERIES = [f"query {number}" for number in range(1_001)]


def test_a_half_is_half_of_the_queries_and_the_same_each_time() -> None:
    half = own_half(QUERIES, b"seed", "c_new")
    assert len(half) == 501
    assert half == own_half(QUERIES[::-1], b"seed", "c_new")
    assert set(half) <= set(QUERIES)


def test_two_agents_share_about_a_half_of_their_halves() -> None:
    one, other = (set(own_half(QUERIES, seed, "c_new")) for seed in (b"a", b"b"))
    assert 190 < len(one & other) < 310


def test_another_collection_is_judged_on_another_half() -> None:
    assert own_half(QUERIES, b"a", "c_1") != own_half(QUERIES, b"a", "c_2")


def test_a_digest_names_a_half_whatever_its_order() -> None:
    assert digest(["b", "a"]) == digest(("a", "b"))
    assert digest(["ab"]) != digest(["a", "b"])


def test_a_digest_names_labels_whatever_their_order_and_others_otherwise() -> None:
    named = digest_of_labels({"a": ["2", "1"], "b": ["3"]})
    assert named == digest_of_labels({"b": frozenset("3"), "a": frozenset("12")})
    others = ({"a": ["1"], "b": ["3"]}, {"a": ["12"], "b": ["3"]}, {"a": ["1", "2"]}, {"a": ["1", "2", "3"], "b": []})
    assert named not in {digest_of_labels(one) for one in others}


@pytest.mark.parametrize("count", [150, 400, 1_000])
@pytest.mark.parametrize("rare", [0.02, 0.3, 1.0], ids=["few differ", "some differ", "all differ"])
def test_the_bound_is_that_of_the_bootstrap(count: int, rare: float) -> None:
    """Within a tenth of a standard error: where few queries differ the resampled means are steps."""
    rng = np.random.default_rng(count)
    drawn = rng.choice([-1.0, -0.5, -0.1, 0.1, 0.5, 0.9], count) * (rng.random(count) < rare)
    means = gates.bounds(drawn[:, None], rng, level=LEVEL)[0][0]
    size = count + 2 * gates.IMAGINED
    error = math.sqrt((float((drawn**2).sum()) + 2 * gates.IMAGINED) / size) / math.sqrt(size)
    assert lower_bound(drawn.tolist()) == pytest.approx(float(means), abs=0.1 * error)


def test_nothing_measured_proves_nothing() -> None:
    assert lower_bound([]) == -math.inf
    assert lower_bound([0.0] * 10) < -0.02


def test_queries_that_all_answer_alike_prove_that_nothing_is_lost_when_there_are_enough() -> None:
    assert lower_bound([0.0] * 500) > -0.02
