"""Callers stay where they are, and a larger share of traffic contains every smaller one."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.core.buckets import BUCKETS, bucket, choose, shadowed
from reembed.core.model import Arm, Routing

OLD = Arm("text-v1", "c_old", "fp-old")
NEW = Arm("text-v2", "c_new", "fp-new")
CANARY = Routing(epoch=7, serving=OLD, candidate=NEW, weight=10)
USERS = [f"user-{number}" for number in range(10_000)]


def on_candidate(weight: int) -> set[str]:
    routing = replace(CANARY, weight=weight)
    return {user for user in USERS if choose(routing, user) == NEW}


def test_a_bucket_is_the_documented_hash() -> None:
    # sha256("c_new\nuser-1") begins with 36347ad237c86361.
    assert bucket("c_new", "user-1") == 0x36347AD237C86361 % 10_000


@given(key=st.text(), lower=st.integers(0, 100), higher=st.integers(0, 100))
def test_whoever_is_on_the_candidate_at_a_lower_weight_is_there_at_a_higher_one(
    key: str, lower: int, higher: int
) -> None:
    lower, higher = min(lower, higher), max(lower, higher)
    at_lower = choose(replace(CANARY, weight=lower), key)
    assert at_lower == OLD or choose(replace(CANARY, weight=higher), key) == NEW


def test_ten_percent_is_contained_in_fifty_and_fifty_in_all() -> None:
    assert on_candidate(0) < on_candidate(10) < on_candidate(50) < on_candidate(100) == set(USERS)


@pytest.mark.parametrize("weight", [1, 10, 25, 50, 90])
def test_the_share_of_users_is_the_weight_within_four_standard_deviations(weight: int) -> None:
    share = weight / 100
    deviation = (len(USERS) * share * (1 - share)) ** 0.5
    assert abs(len(on_candidate(weight)) - len(USERS) * share) < 4 * deviation


@given(st.text())
def test_a_key_has_the_same_bucket_every_time(key: str) -> None:
    assert bucket("c_new", key) == bucket("c_new", key) < BUCKETS


def test_the_next_migration_draws_other_callers_first() -> None:
    first = on_candidate(10)
    second = {
        user for user in USERS if choose(replace(CANARY, candidate=replace(NEW, collection="c_next")), user) != OLD
    }
    assert len(first & second) < len(USERS) * 0.02


@pytest.mark.parametrize(
    ("routing", "expected"),
    [
        pytest.param(Routing(), None, id="nothing answers before the first vectors"),
        pytest.param(Routing(serving=OLD), OLD, id="no migration"),
        pytest.param(replace(CANARY, weight=0), OLD, id="a candidate without traffic"),
        pytest.param(replace(CANARY, weight=100), NEW, id="all traffic on the candidate"),
        pytest.param(Routing(candidate=NEW, weight=0), None, id="a first fill that is not done"),
    ],
)
def test_the_ends_of_the_scale(routing: Routing, expected: Arm | None) -> None:
    assert choose(routing, "user-1") == expected


def test_a_lone_surrogate_has_a_bucket() -> None:
    assert 0 <= bucket("c_new", "\ud800") < BUCKETS


def in_sample(routing: Routing) -> set[str]:
    return {user for user in USERS if shadowed(routing, user, "keys")}


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.05, 0.5, 1.0])
def test_the_sample_is_its_share_of_the_queries(share: float) -> None:
    deviation = (len(USERS) * share * (1 - share)) ** 0.5
    assert abs(len(in_sample(replace(CANARY, shadow=share))) - len(USERS) * share) <= 4 * deviation


def test_the_sample_is_drawn_alike_from_both_sides_callers() -> None:
    sample = in_sample(replace(CANARY, shadow=0.5))
    on_it = on_candidate(50)
    assert abs(len(sample & on_it) / len(on_it) - 0.5) < 0.03


def test_a_caller_has_some_queries_in_the_sample_and_others_not() -> None:
    assert {shadowed(replace(CANARY, shadow=0.5), "user-1", f"query {number}") for number in range(40)} == {True, False}


def test_the_next_migration_draws_another_sample() -> None:
    first = replace(CANARY, shadow=0.1)
    following = replace(first, candidate=replace(NEW, collection="c_next"))
    assert len(in_sample(first) & in_sample(following)) < len(USERS) * 0.02


@given(st.text(), st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_contains_every_smaller_one(caller: str, query: str, one: float, other: float) -> None:
    lower, higher = sorted((one, other))
    assert not shadowed(replace(CANARY, shadow=lower), caller, query) or shadowed(
        replace(CANARY, shadow=higher), caller, query
    )


@pytest.mark.parametrize("missing", ["serving", "candidate"])
def test_without_two_sides_there_is_no_sample(missing: str) -> None:
    assert not shadowed(replace(CANARY, shadow=1.0, **{missing: None}), "user-1", "keys")
