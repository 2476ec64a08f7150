"""Which numbers of votes are safe and live, and which members cannot vote at all."""

import itertools
from dataclasses import replace

import pytest

from reembed.core.quorum.membership import KEY_BYTES, MOST_MEMBERS, Membership, apart, decoded, encoded, unsound
from tests import panels

PANEL = panels.agents().membership


def contradiction(members: int, faulty: int, quorum: int) -> bool:
    """Return whether two quorums exist that share nobody but faulty members, by trying all of them."""
    liars = set(range(faulty))
    quorums = [set(one) for one in itertools.combinations(range(members), quorum)]
    return any(first & second <= liars for first in quorums for second in quorums)


def live(members: int, faulty: int, quorum: int) -> bool:
    return quorum <= members - faulty


def test_of_eight_with_two_liars_six_is_the_only_number_that_is_safe_and_live() -> None:
    safe = [quorum for quorum in range(1, 9) if not contradiction(8, 2, quorum)]
    assert safe == [6, 7, 8]
    assert [quorum for quorum in safe if live(8, 2, quorum)] == [6] == [PANEL.quorum]


def test_the_textbooks_five_of_eight_is_unsafe() -> None:
    assert contradiction(8, 2, 2 * 2 + 1)


@pytest.mark.parametrize("faulty", range(3))
def test_a_quorum_is_the_least_that_is_safe_and_it_is_live(faulty: int) -> None:
    for members in range(3 * faulty + 1, 9):
        quorum = panels.agents(members, faulty).membership.quorum
        assert not contradiction(members, faulty, quorum)
        assert quorum == 1 or contradiction(members, faulty, quorum - 1)
        assert live(members, faulty, quorum)


def test_up_to_the_largest_panel_a_quorum_is_safe_and_live() -> None:
    for members, faulty in itertools.product(range(1, MOST_MEMBERS + 1), range(6)):
        membership = panels.agents(members, faulty).membership
        if unsound(membership) is None:
            assert 2 * membership.quorum - members > faulty
            assert membership.quorum <= members - faulty


@pytest.mark.parametrize(
    "membership",
    [
        replace(PANEL, members=()),
        replace(PANEL, faulty=3),
        replace(PANEL, faulty=-1),
        replace(PANEL, version=0),
        replace(PANEL, members=PANEL.members[:6]),
        panels.agents(MOST_MEMBERS + 1).membership,
        replace(PANEL, members=(*PANEL.members[:7], replace(PANEL.members[7], key=PANEL.members[0].key))),
        replace(PANEL, members=(*PANEL.members[:7], replace(PANEL.members[7], name=PANEL.members[0].name))),
        replace(PANEL, members=(*PANEL.members[:7], replace(PANEL.members[7], key=b"short"))),
    ],
    ids=["none", "3 faulty", "-1 faulty", "version 0", "6 members", "17 members", "same key", "same name", "short key"],
)
def test_members_whose_votes_mean_nothing_are_unsound(membership: Membership) -> None:
    assert unsound(membership) is not None


def test_eight_members_are_sound() -> None:
    assert unsound(PANEL) is None


def test_the_order_of_members_means_nothing_and_all_else_does() -> None:
    assert replace(PANEL, members=PANEL.members[::-1]).digest == PANEL.digest
    changed = [
        replace(PANEL, version=2),
        replace(PANEL, faulty=1),
        replace(PANEL, members=PANEL.members[:7]),
        panels.agents(generation=1).membership,
    ]
    assert PANEL.digest not in {one.digest for one in changed}


def test_a_key_has_one_spelling() -> None:
    key = bytes(range(KEY_BYTES))
    text = encoded(key)
    assert decoded(text) == key
    # Base64 ignores the last bits of its last letter, blanks and, to many readers, what is not of its alphabet.
    others = [text.rstrip("="), text + "\n", f" {text}", text[:-2] + chr(ord(text[-2]) + 1) + "=", "no base64", "é"]
    assert [decoded(other) for other in others] == [None] * len(others)


def named(*names: int, faulty: int = 2) -> Membership:
    known = panels.agents(12, 2).membership.members
    return Membership(1, faulty, tuple(known[name] for name in names))


def contradiction_over_a_change(before: Membership, after: Membership) -> bool:
    """Return whether a quorum before and one after share nobody but liars; each name votes once in a slot."""
    faulty = max(before.faulty, after.faulty)
    firsts = itertools.combinations([member.name for member in before.members], before.quorum)
    seconds = list(itertools.combinations([member.name for member in after.members], after.quorum))
    return any(len(set(first) & set(second)) <= faulty for first in firsts for second in seconds)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (named(*range(8)), named(*range(8))),
        (named(*range(8)), named(*range(1, 9))),
        (named(*range(8)), named(*range(2, 10))),
        (named(*range(8)), named(*range(9))),
        (named(*range(8)), named(*range(7))),
        (named(*range(7)), named(*range(1, 8))),
        (named(*range(4), faulty=1), named(*range(8))),
        (named(*range(4), faulty=1), named(*range(1, 5), faulty=1)),
        (named(*range(4), faulty=1), named(*range(5), faulty=1)),
        (named(*range(8), faulty=1), named(*range(8))),
    ],
    ids=["other keys", "one", "two", "one more", "one less", "of seven", "4 to 8", "of four", "4 to 5", "more faulty"],
)
def test_members_follow_each_other_if_and_only_if_no_two_quorums_of_both_times_contradict(
    before: Membership, after: Membership
) -> None:
    assert (apart(before, after) is not None) == contradiction_over_a_change(before, after)
