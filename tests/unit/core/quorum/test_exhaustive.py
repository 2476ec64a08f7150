"""Four agents of which one lies: every order of everything that they, an operator that lies and two gateways can do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from reembed.core.model import Routing
from reembed.core.quorum import raising
from reembed.core.quorum.certificates import Certificate, Certified, Choice
from reembed.core.quorum.counting import Cast, Standing, count
from reembed.core.quorum.membership import Membership
from reembed.core.quorum.proposals import Proposal
from reembed.core.quorum.raising import Trust, only_lowered, uncertified
from tests import panels
from tests.panel_world import INDEX, NEW, OLD, members, public_key, verify, vote_of

NAMES = [f"agent-{at}" for at in range(4)]
HONEST = NAMES[1:]  # all are alike, so that it is no matter which of them lies
MEMBERS = members(dict.fromkeys(NAMES, 0), 1, 1)
CHAIN = (Certified(MEMBERS),)
TRUST = Trust(INDEX, MEMBERS.digest, 1)
START = Routing(4, OLD, NEW, 0)
LOWERED = Routing(5, OLD, NEW, 0)


def proposal(before: int, epoch: int, weight: int) -> Proposal:
    base = panels.raising(0, weight, epoch)
    return replace(base, before=replace(base.before, epoch=before))


# Two of one slot; two of the next one, one of which was proposed after epoch 5 was used for a lowering.
PROPOSALS = (proposal(4, 5, 10), proposal(4, 5, 50), proposal(4, 6, 10), proposal(5, 6, 50))
SLOTS = ((0, 1), (2, 3))

Votes = tuple[tuple[int | None, ...], ...]  # of each honest agent: which proposal of each slot it approved, if any
Held = tuple[Routing, bool]  # and whether it was a raise: a lowering may differ, since it needs nobody
State = tuple[Votes, Held, Held]


@cache
def certificate(number: int, voters: frozenset[str]) -> Certificate:
    """Return what can be put together for a proposal: these honest votes, and the liar's."""
    votes = [vote_of(public_key(name, 0), PROPOSALS[number], Choice.APPROVE) for name in sorted(voters | {NAMES[0]})]
    return Certificate(PROPOSALS[number], tuple(votes), CHAIN)


@cache
def told(number: int, voters: frozenset[str]) -> Routing:
    """Return what an operator that lies writes for a proposal."""
    epoch, weight = PROPOSALS[number].epoch, PROPOSALS[number].after.weight
    return Routing(epoch, OLD, NEW, weight, certificate=certificate(number, voters))


@cache
def read(gateway: Held, new: Routing) -> Held:
    """Return what a gateway holds after it was told."""
    held, _ = gateway
    refusal = uncertified(held, new, TRUST, panels.NOON, verify)
    if new.epoch < held.epoch:
        return gateway
    taken = replace(new if refusal is None else only_lowered(held, new), certificate=None)
    return gateway if taken == held else (taken, taken.weight > held.weight)


def following(state: State) -> Iterator[State]:
    """Yield every state that one step of anybody leads to."""
    votes, *gateways = state
    for agent, slot in ((agent, slot) for agent in range(3) for slot in range(2)):
        if votes[agent][slot] is None:
            for number in (*SLOTS[slot], -1):  # -1: it refuses what it found there
                mine = tuple(number if at == slot else old for at, old in enumerate(votes[agent]))
                yield (*votes[:agent], mine, *votes[agent + 1 :]), gateways[0], gateways[1]
    for number in range(len(PROPOSALS)):
        voters = frozenset(name for name, of in zip(HONEST, votes, strict=True) if number in of)
        for at, new in ((at, new) for at in range(2) for new in (told(number, voters), LOWERED)):
            after = read(gateways[at], new)
            if after != gateways[at]:
                yield votes, *([after, gateways[1]] if at == 0 else [gateways[0], after])


def canonical(state: State) -> State:
    """Honest agents are alike, and so are gateways."""
    votes, first, second = state
    ordered = tuple(sorted(votes, key=repr))
    return (ordered, *sorted((first, second), key=repr))  # type: ignore[return-value]


def explored() -> Iterator[tuple[State, State]]:
    """Yield every step between two states that can be reached."""
    start: State = (((None, None),) * 3, (START, False), (START, False))
    seen, left = {start}, [start]
    while left:
        state = left.pop()
        for found in following(state):
            yield state, found
            if (after := canonical(found)) not in seen:
                seen.add(after)
                left.append(after)


def broken() -> str | None:
    """Return what goes wrong somewhere, None if nothing does anywhere."""
    number = 0
    for before, after in explored():
        number += 1
        (one, first), (two, second) = after[1:]
        if one.epoch == two.epoch and first and second and one.weight != two.weight:
            return f"two raises of epoch {one.epoch}"
        for (held, _), (new, _) in zip(before[1:], after[1:], strict=True):
            if new.epoch < held.epoch or (new.epoch == held.epoch and new.weight > held.weight):
                return f"epoch {held.epoch} of {held.weight} was followed by {new.epoch} of {new.weight}"
            if new.weight > held.weight and (wrong := unearned(after[0], held, new)) is not None:
                return wrong
    assert number > 5_000
    return None


def unearned(votes: Votes, held: Routing, new: Routing) -> str | None:
    """Return what is wrong about a raise."""
    voters = [of for of in votes if any(number is not None and number >= 0 and fits(number, new) for number in of)]
    if len(voters) < 2:
        return f"{len(voters)} honest voted for what was accepted"
    if held == LOWERED and new.weight != 50:
        return "what was voted on before a lowering came back after it"
    return None


def fits(number: int, routing: Routing) -> bool:
    return (PROPOSALS[number].epoch, PROPOSALS[number].after.weight) == (routing.epoch, routing.weight)


def test_no_order_of_votes_lies_and_readings_breaks_a_promise() -> None:
    assert broken() is None


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    for cached in (read, told, certificate):
        cached.cache_clear()


@pytest.mark.parametrize("quorum", [1, 2])
def test_with_fewer_votes_some_order_breaks_one(quorum: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Membership, "quorum", property(lambda _: quorum))
    assert broken() is not None


def test_if_no_gateway_asked_what_its_voters_knew_a_lowering_would_be_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raising, "_overtaken", lambda *_: None)
    assert broken() == "what was voted on before a lowering came back after it"


WORDS = ("approves", "refuses", "says both", "approves the other", "is silent")


def cast(name: str, word: str) -> list[Cast]:
    ways = {
        "approves": [(0, Choice.APPROVE)],
        "refuses": [(0, Choice.REJECT)],
        "says both": [(0, Choice.APPROVE), (0, Choice.REJECT)],
        "approves the other": [(1, Choice.APPROVE)],
        "is silent": [],
    }
    return [_cast(name, number, choice) for number, choice in ways[word]]


@cache
def _cast(name: str, number: int, choice: Choice) -> Cast:
    return Cast(PROPOSALS[number].digest, choice, vote_of(public_key(name, 0), PROPOSALS[number], choice))


@pytest.mark.parametrize("last", WORDS)
def test_all_behaviours_of_all_four_come_to_what_their_numbers_say(last: str) -> None:
    for words in ((a, b, c, last) for a in WORDS for b in WORDS for c in WORDS):
        ballots = [one for name, word in zip(NAMES, words, strict=True) for one in cast(name, word)]
        for order in (ballots, ballots[::-1], ballots[1::2] + ballots[::2]):
            found = count(PROPOSALS[0], order, CHAIN, panels.NOON, verify)
            yes = words.count("approves") + words.count("says both")
            expected = (
                Standing.CERTIFIED if yes >= 3 else Standing.REFUSED if words.count("refuses") >= 2 else Standing.OPEN
            )
            assert found.standing is expected
