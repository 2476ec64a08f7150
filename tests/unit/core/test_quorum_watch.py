"""Who of a panel is dead, and whose work is whose."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reembed.core.quorum.membership import Member, Role
from reembed.core.quorum.watch import (
    AGAIN,
    DEAD,
    GAP,
    LOOK,
    Watch,
    dead,
    due,
    line,
    live,
    looked,
    place,
    recovered,
    settled,
)
from tests.panels import agents

MEMBERS = agents().membership.members
NAMES = [member.name for member in MEMBERS]
A, B = NAMES[:2]


def watched(watch: Watch, said: dict[str, str], until: float, names: list[str] = NAMES[:2]) -> Watch:
    """Return what is known after looks at regular times, at each of which the Leases said the same."""
    now = watch.at if watch.at is not None else 0.0
    while now < until:
        now += LOOK
        watch = looked(watch, said, names, now)
    return watch


def test_whoever_has_just_begun_to_look_takes_nobody_for_dead() -> None:
    watch = looked(Watch(), {A: "1"}, [A, B], 1000.0)
    assert (live(watch), dead(watch), settled(watch)) == ((A, B), (), False)


def test_a_lease_that_does_not_change_for_thirty_seconds_is_of_a_dead_agent() -> None:
    watch = looked(Watch(), {A: "1", B: "1"}, [A, B], 0.0)
    at = 0.0
    while at < DEAD:
        at += LOOK
        watch = looked(watch, {A: f"{at}", B: "1"}, [A, B], at)
    assert (dead(watch), live(watch)) == ((B,), (A,))


def test_a_lease_that_was_never_there_is_of_a_dead_agent_too() -> None:
    assert dead(watched(looked(Watch(), {}, [A], 0.0), {}, DEAD, [A])) == (A,)


def test_a_lease_that_somebody_deleted_is_no_sign_of_life() -> None:
    watch = watched(looked(Watch(), {A: "1"}, [A], 0.0), {A: "1"}, 15.0, [A])
    assert dead(watched(watch, {}, DEAD, [A])) == (A,)


def test_after_a_time_without_looks_everybody_begins_anew() -> None:
    watch = watched(looked(Watch(), {A: "1"}, [A], 0.0), {A: "1"}, 27.0, [A])
    assert dead(looked(watch, {A: "1"}, [A], 27.0 + GAP + 1)) == ()


def test_it_is_known_of_everybody_once_all_have_beaten() -> None:
    watch = looked(Watch(), {A: "1", B: "1"}, [A, B], 0.0)
    assert settled(looked(watch, {A: "2", B: "2"}, [A, B], 3.0))


def test_an_outage_is_measured_from_the_last_sign_of_life_to_the_next() -> None:
    watch = looked(Watch(), {A: "1"}, [A], 0.0)
    watch = watched(looked(watch, {A: "2"}, [A], 3.0), {A: "2"}, 36.0, [A])
    back = looked(watch, {A: "3"}, [A], 39.0)
    assert (recovered(watch, back), dead(back)) == ({A: 36.0}, ())


def test_a_role_s_work_is_its_own_agent_s_while_that_lives() -> None:
    for member in MEMBERS:
        assert line(member.role, MEMBERS, NAMES)[0] == member.name


@given(st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES)))
def test_one_more_death_moves_no_work_but_that_of_who_died(name: str, gone: set[str]) -> None:
    before = [one for one in NAMES if one not in gone]
    after = [one for one in before if one != name]
    for role in Role:
        was, now = line(role, MEMBERS, before), line(role, MEMBERS, after)
        assert now == tuple(one for one in was if one != name)


@given(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
def test_each_duty_is_exactly_one_living_member_s(alive: list[str]) -> None:
    for role in Role:
        first = [name for name in NAMES if place(role, name, MEMBERS, alive) == 0]
        assert len(first) == 1
        assert first[0] in alive


def test_who_is_no_member_has_no_duty() -> None:
    stranger = replace(MEMBERS[0], name="stranger")
    assert place(Role.MEMORY_ANALYST, stranger.name, MEMBERS, [*NAMES, stranger.name]) is None


def test_two_agents_of_one_role_share_it_by_precedence() -> None:
    twin = Member("twin", MEMBERS[0].role, b"0" * 32)
    both = (*MEMBERS, twin)
    order = line(twin.role, both, [*NAMES, "twin"])
    assert set(order[:2]) == {MEMBERS[0].name, "twin"}


def test_the_pod_that_an_agent_died_in_may_go_at_once_and_the_next_one_after_a_minute() -> None:
    first = due(None, ["a"], 100.0)
    second = due(first, ["b"], 103.0)
    assert (first, second, due(second, ["b"], 106.0)) == ({"a": 100.0}, {"b": 103.0 + AGAIN}, {"b": 103.0 + AGAIN})
