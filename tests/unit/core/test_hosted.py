"""What is counted of a hosted model, what its pods may spend, and when it is another model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.core.hosted import HostedStatus, PodSaid, granted, grants, notes, problem, seen
from reembed.core.sketch import cosine
from reembed.embedder.sketch import sketch

rng = np.random.default_rng(7)
VECTORS = rng.standard_normal((5, 384)).astype(np.float32)
HERE = sketch(VECTORS)
OTHER = sketch(rng.standard_normal((5, 384)).astype(np.float32))


def looks(*said: dict[str, PodSaid], status: HostedStatus | None = None, alive: str = "ab") -> HostedStatus:
    found = status or HostedStatus()
    for one in said:
        found = seen(found, one, frozenset(alive))
    return found


def test_what_pods_spent_is_counted_once_however_often_they_are_asked() -> None:
    found = looks({"a": PodSaid(100, 0)}, {"a": PodSaid(100, 0), "b": PodSaid(7, 0)}, {"a": PodSaid(150, 0)})
    assert (found.spent, found.pods) == (157, {"a": PodSaid(150, 0), "b": PodSaid(7, 0)})


def test_a_container_that_was_started_again_counts_from_zero() -> None:
    assert looks({"a": PodSaid(100, 0)}, {"a": PodSaid(30, 0)}).spent == 130


def test_a_pod_that_is_gone_is_forgotten_and_what_it_spent_is_not() -> None:
    found = looks({"a": PodSaid(100, 0), "b": PodSaid(5, 0)})
    assert seen(found, {}, frozenset("b")) == replace(found, pods={"b": PodSaid(5, 0)})


def test_what_is_left_is_divided_among_the_pods_on_top_of_what_each_spent() -> None:
    said = {"a": PodSaid(100, 0), "b": PodSaid(20, 0)}
    assert grants(looks(said), 200, said) == {"a": 140, "b": 60}
    assert grants(looks(said), 120, said) == {"a": 100, "b": 20}
    assert grants(looks(said), 50, said) == {"a": 100, "b": 20}
    assert grants(looks(said), None, said) == {"a": None, "b": None}
    assert grants(looks(said), 200, {}) == {}


def test_a_request_above_a_share_gets_all_that_is_left() -> None:
    said = {"a": PodSaid(100, 0), "b": PodSaid(20, 0, short=60)}
    assert grants(looks(said), 200, said) == {"a": 100, "b": 100}


@given(
    st.integers(1, 10_000),
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 5000), st.sets(st.sampled_from("abc")), st.booleans()),
        max_size=40,
    ),
)
def test_pods_never_spend_more_than_the_budget(budget: int, tries: list[tuple[str, int, set[str], bool]]) -> None:
    """A pod spends what it may, or turns a request away; then some are asked, some of which have gone on spending."""
    spent, may, short, status = (
        dict.fromkeys("abc", 0),
        dict.fromkeys("abc", 0),
        dict.fromkeys("abc", 0),
        HostedStatus(),
    )
    for pod, wished, answer, lost in tries:
        fits = wished <= may[pod] - spent[pod]
        spent[pod], short[pod] = spent[pod] + (wished if fits else 0), 0 if fits else wished
        said = {name: PodSaid(spent[name], 0, short=short[name]) for name in answer}
        status = seen(status, said, frozenset("abc"))
        spent[pod] += min(wished, max(may[pod] - spent[pod], 0)) // 2
        made = grants(status, budget, said)
        may |= {name: tokens or 0 for name, tokens in made.items()}
        status = granted(status, made, () if lost else made)
    assert sum(spent.values()) <= budget


def test_what_a_silent_pod_may_still_spend_is_granted_to_nobody_else() -> None:
    said = {"a": PodSaid(0, 0), "b": PodSaid(0, 0)}
    status = looks(said)
    status = granted(status, made := grants(status, 1000, said), made)
    alone = {"a": PodSaid(500, 0)}
    assert grants(looks(alone, status=status), 1000, alone) == {"a": 500}
    assert grants(looks(alone, status=status, alive="a"), 1000, alone) == {"a": 1000}


def test_what_one_pod_gives_up_goes_to_another_at_the_next_look() -> None:
    said = {"a": PodSaid(500, 0), "b": PodSaid(0, 0)}
    status = replace(HostedStatus(500), pods={"a": PodSaid(500, 0, granted=500), "b": PodSaid(0, 0, granted=500)})
    first = grants(looks(said, status=status), 1000, said)
    status = granted(looks(said, status=status), first, first)
    assert (first, grants(looks(said, status=status), 1000, said)) == ({"a": 500, "b": 250}, {"a": 750, "b": 250})


def test_a_pod_that_is_told_less_may_have_spent_the_larger_grant_until_it_answers_again() -> None:
    said = {"a": PodSaid(0, 0), "b": PodSaid(0, 0)}
    status = replace(HostedStatus(), pods={"a": PodSaid(0, 0, granted=5), "b": PodSaid(0, 0)})
    status = granted(status, made := grants(status, 5, said), made)
    alone = {"b": PodSaid(0, 0)}
    assert (made, grants(looks(alone, status=status), 5, alone)) == ({"a": 2, "b": 0}, {"b": 0})


def test_two_failed_checks_in_a_row_say_that_the_model_changed() -> None:
    once = looks({"a": PodSaid(0, 1, HERE)}, {"a": PodSaid(0, 2, OTHER)})
    twice = looks({"a": PodSaid(0, 2, OTHER)}, {"a": PodSaid(0, 3, OTHER)}, status=once)
    assert [(one.failed_checks, one.changed) for one in (once, twice)] == [(1, False), (2, True)]
    told = problem(twice, None, {})
    assert told is not None
    assert told.reason == "ModelChanged"
    assert f"last {twice.cosine:.4f}" in told.message


def test_documents_that_may_have_vectors_of_another_model_are_told_while_it_lasts_and_afterwards() -> None:
    noon, minute = 1_795_953_600, 60
    same = looks({"a": PodSaid(0, noon, HERE)}, {"a": PodSaid(0, noon + 60 * minute, HERE)})
    once = looks({"a": PodSaid(0, noon + 120 * minute, OTHER)}, status=same)
    twice = looks({"a": PodSaid(0, noon + 121 * minute, OTHER)}, status=once)
    told, (note,) = problem(twice, None, {}), notes(once, twice)
    meanwhile = "those that were embedded between 2026-11-29T13:00:00Z and 2026-11-29T14:01:00Z may have been"
    assert told is not None
    assert (meanwhile in told.message, meanwhile in note.message) == (True, True)
    back = looks({"a": PodSaid(0, noon + 122 * minute, HERE)}, status=twice)
    again = looks({"a": PodSaid(0, noon + 123 * minute, HERE)}, status=back)
    assert [(one.changed, one.doubtful) for one in (back, again)] == [(True, True), (False, False)]
    assert (again.change, notes(twice, back)) == ((noon + 60 * minute, noon + 121 * minute), ())
    assert meanwhile in notes(back, again)[0].message


def test_a_model_that_comes_and_goes_has_changed_until_it_stays() -> None:
    checks = [{"a": PodSaid(0, n, OTHER if n in {2, 3, 5} else HERE)} for n in range(1, 6)]
    found = looks(*checks)
    assert (found.changed, found.change) == (True, (1, 3))


def test_from_the_first_failed_check_on_nothing_is_stored() -> None:
    once = looks({"a": PodSaid(0, 1, HERE)}, {"a": PodSaid(0, 2, OTHER)})
    assert (once.doubtful, once.changed, notes(HostedStatus(), once)) == (True, False, ())


def test_a_check_that_passes_takes_back_one_that_failed() -> None:
    found = looks({"a": PodSaid(0, 1, HERE)}, {"a": PodSaid(0, 2, OTHER)}, {"a": PodSaid(0, 3, HERE)})
    assert (found.failed_checks, found.cosine) == (0, pytest.approx(1.0))


def test_two_pods_that_start_on_another_model_are_two_checks() -> None:
    first = looks({"a": PodSaid(0, 1, HERE)}, alive="a")
    assert looks({"b": PodSaid(0, 1, OTHER), "c": PodSaid(0, 1, OTHER)}, status=first, alive="bc").changed


def test_vectors_of_another_length_are_another_model() -> None:
    found = looks({"a": PodSaid(0, 1, HERE)}, {"a": PodSaid(0, 2, "AAAA")}, {"a": PodSaid(0, 3, "not base64")})
    assert (found.cosine, found.changed) == (None, True)


@pytest.mark.parametrize(
    ("spent", "short", "reason"), [(99, 0, None), (100, 0, "BudgetSpent"), (90, 11, "BudgetSpent"), (90, 10, None)]
)
def test_a_budget_is_spent_when_nothing_that_is_asked_for_fits(spent: int, short: int, reason: str | None) -> None:
    said = {"a": PodSaid(spent, 0, short=short)}
    found = problem(looks(said), 100, said)
    assert (found.reason if found else None) == reason


def test_an_endpoint_that_answers_no_pod_is_told_and_one_that_answers_some_is_not() -> None:
    failing = PodSaid(0, 0, error="429: insufficient_quota")
    found = problem(HostedStatus(), None, {"b": failing, "a": failing})
    assert found is not None
    assert (found.reason, found.message) == (
        "EndpointFailing",
        "no pod gets an answer; pod a: 429: insufficient_quota; it is tried again",
    )
    assert problem(HostedStatus(), None, {"b": failing, "a": PodSaid(0, 0)}) is None


def test_without_a_budget_nothing_is_ever_spent_up() -> None:
    said = {"a": PodSaid(10**9, 0, short=1)}
    assert problem(looks(said), None, said) is None


@pytest.mark.parametrize("noise", [0.0, 0.005, 0.02, 0.05, 0.1])
def test_a_sketch_tells_small_differences_as_the_vectors_do(noise: float) -> None:
    moved = VECTORS + noise * rng.standard_normal(VECTORS.shape).astype(np.float32)
    products = (VECTORS * moved).sum(axis=1)
    exact = (products / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(moved, axis=1)).min()
    found = cosine(HERE, sketch(moved))
    assert found is not None
    assert 1 - found == pytest.approx(1 - exact, rel=1.0, abs=1e-5)


def test_a_sketch_depends_neither_on_length_nor_on_versions() -> None:
    """What is stored in a pool's status is compared by later operators."""
    numbers = np.arange(1, 9, dtype=np.float32)[None]
    assert sketch(numbers) == sketch(numbers * 4)
    assert sketch(numbers).startswith("uapIszM0ua57rEizmi3XL7mye6wKMXswe6yarXuoKbK5qnssuap7")


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_vector_without_direction_has_no_sketch(value: float) -> None:
    with pytest.raises(ValueError, match="zero or not finite"):
        sketch(np.full((1, 4), value, np.float32))
