"""Every fault of the matrix on the whole protocol: nothing goes wrong, and it goes on if and only if six are well."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core.model import Routing
from reembed.core.quorum.certificates import SKEW, Certificate, Choice
from reembed.core.quorum.counting import Cast
from reembed.core.quorum.membership import Membership
from reembed.core.quorum.proposals import Kind, Split
from tests.panel_world import NEW, OLD, Operator, World, public_key, vote_of

YES, NO = Choice.APPROVE, Choice.REJECT


def lived(world: World, rounds: int = 20) -> list[int]:
    for _ in range(rounds):
        world.round()
    return world.weights


def silence(world: World, number: int) -> None:
    for agent in list(world.agents.values())[-number:] if number else ():
        agent.crash()


def certified(world: World) -> World:
    """Return a world whose operator has the certificate of its first step, and has not used it."""
    world.operators[0].propose(world, 10)
    for agent in world.agents.values():
        agent.judge(world)
        agent.cast(world)
    world.operators[0].count(world)
    assert world.operators[0].certificate is not None
    return world


@pytest.mark.parametrize("silent", range(4))
def test_it_goes_on_if_and_only_if_six_of_eight_are_alive(silent: int) -> None:
    world = World()
    silence(world, silent)
    assert lived(world) == ([100, 100] if silent <= 2 else [0, 0])


@pytest.mark.parametrize(("liars", "crashed"), [(2, 0), (2, 1), (1, 1), (1, 2)])
@pytest.mark.parametrize("lie", [YES, NO])
def test_with_liars_it_goes_on_if_and_only_if_six_are_honest_and_alive_or_a_liar_helps(
    liars: int, crashed: int, lie: Choice
) -> None:
    world = World(liars=liars)
    silence(world, crashed)
    for _ in range(20):
        world.round()
        for proposal, _ in list(world.api.decisions.values()):
            for name in world.liars:
                world.lie(name, proposal, lie)
    alive = 8 - liars - crashed
    # Whoever lies by approving what is good is as good as anybody.
    assert world.weights == ([100, 100] if alive >= 6 or (lie is YES and alive + liars >= 6) else [0, 0])


def test_two_who_sign_both_ways_and_for_everybody_stop_nothing_and_certify_nothing_else() -> None:
    world = World(liars=2)
    bad = world.proposal(9, 100)
    world.api.propose(bad, "agent-0")
    for _ in range(20):
        for proposal, _ in list(world.api.decisions.values()):
            for name, choice in itertools.product(sorted(world.liars), [NO, YES]):
                world.lie(name, proposal, choice)
        world.round()
        world.read(world.gateways, Routing(9, OLD, NEW, 100, certificate=world.any_certificate(bad)))
    assert world.weights == [100, 100]


@pytest.mark.parametrize(("liars", "crashed"), [(3, 0), (2, 1)])
def test_three_liars_and_two_with_a_crash_certify_nothing_that_the_others_see_to_be_bad(
    liars: int, crashed: int
) -> None:
    """With three liars it is no promise any more: three honest ones that are wrong would be enough."""
    world = World(liars=liars)
    world.good = False
    silence(world, crashed)
    for _ in range(5):
        world.round()
        for proposal, _ in list(world.api.decisions.values()):
            for name in world.liars:
                world.lie(name, proposal, YES)
            told = Routing(proposal.epoch, OLD, NEW, proposal.after.weight)
            world.read(world.gateways, replace(told, certificate=world.any_certificate(proposal)))
    assert world.weights == [0, 0]


@pytest.mark.parametrize("good", [True, False])
def test_two_liars_make_nothing_bad_of_good_and_nothing_good_of_bad(good: bool) -> None:
    world = World(liars=2)
    world.good = good
    for _ in range(20):
        world.round()
        for proposal, _ in list(world.api.decisions.values()):
            for name in world.liars:
                world.lie(name, proposal, NO if good else YES)
    assert world.weights == ([100, 100] if good else [0, 0])


def test_ballots_of_liars_with_others_votes_keys_and_names_count_for_nobody() -> None:
    world = World(liars=2, gateways=1)
    silence(world, 1)  # five honest: one vote short
    world.operators[0].propose(world, 10)
    proposal = next(iter(world.api.decisions.values()))[0]
    for agent in world.agents.values():
        if agent.alive:
            agent.judge(world)
            agent.cast(world)
    good = next(iter(world.api.ballots.values()))
    dead = public_key("agent-7", 0)
    forged = vote_of(public_key("agent-0", 0), proposal, NO)
    for name, ballot in [("agent-0", good), ("agent-1", Cast(proposal.digest, YES, replace(forged, key=dead)))]:
        world.api.cast(name, proposal.slot, ballot)
    assert lived(world, 1) == [0]


def other_migration(world: World) -> Routing:
    subject = replace(world.proposal(5, 10).subject, uid="uid-other", migration_uid="uid-2")
    return certificate_of(world, subject=subject)


def certificate_of(world: World, **changed: object) -> Routing:
    """Return what a liar writes who got a real certificate of something else, from all the honest."""
    proposal = replace(world.proposal(5, 50), **changed)
    for name in world.generations:
        vote_of(public_key(name, 0), proposal, YES)
    votes = tuple(vote_of(public_key(name, 0), proposal, YES) for name in world.generations)
    certificate = replace(world.any_certificate(proposal), votes=votes)
    return Routing(5, OLD, NEW, 50, certificate=certificate)


REPLAYS: dict[str, Callable[[World], Routing]] = {
    "another index": other_migration,
    "another epoch": lambda world: certificate_of(world, epoch=4),
    "a generation before": lambda world: certificate_of(world, before=Split(3, 0)),
    "another weight": lambda world: certificate_of(world, after=replace(world.proposal(5, 50).after, weight=100)),
    "another kind": lambda world: certificate_of(world, kind=Kind.LOAD_MODEL),
    "expired": lambda world: certificate_of(world, expires=world.now - SKEW - timedelta(seconds=1)),
    "of the future": lambda world: certificate_of(world, expires=world.now + timedelta(hours=1)),
    "no certificate": lambda _: Routing(5, OLD, NEW, 50),
    "another side": lambda world: replace(certificate_of(world), candidate=replace(NEW, collection="c_2")),
}


@pytest.mark.parametrize("replay", REPLAYS.values(), ids=REPLAYS.keys())
def test_what_was_certified_for_something_else_moves_no_traffic(replay: Callable[[World], Routing]) -> None:
    world = World()
    world.read(world.gateways, replay(world))
    assert world.weights == [0, 0]


def test_an_operator_that_dies_before_the_certificate_is_followed_by_one_that_counts_the_same_ballots() -> None:
    world = World()
    world.operators[0].propose(world, 10)
    for agent in world.agents.values():
        agent.judge(world)
        agent.cast(world)
    world.operators = [Operator()]
    world.operators[0].count(world)
    world.operators[0].execute(world)
    world.read(world.gateways)
    assert world.weights == [10, 10]


def test_an_operator_that_dies_with_the_certificate_is_followed_by_one_that_finds_it_again() -> None:
    world = certified(World())
    world.operators = [Operator()]
    assert lived(world) == [100, 100]


def test_an_operator_that_was_away_until_the_certificate_expired_asks_again() -> None:
    world = certified(World())
    world.operators = [Operator()]
    world.now += timedelta(minutes=6)
    assert lived(world) == [100, 100]


def test_an_operator_that_dies_when_some_gateways_follow_is_followed_by_one_that_goes_on() -> None:
    world = certified(World())
    world.operators[0].execute(world)
    world.read(world.gateways[:1])
    assert world.weights == [10, 0]
    world.operators = [Operator()]
    assert lived(world) == [100, 100]


def test_a_certificate_that_is_executed_twice_is_executed_once() -> None:
    world = certified(World())
    for _ in range(3):
        world.operators[0].execute(world)
    assert len(world.api.history) == 1
    world.read(world.gateways)
    world.operators[0].lower(world)
    world.read(world.gateways)
    world.operators[0].execute(world)
    world.read(world.gateways)
    assert world.weights == [0, 0]


def test_of_two_operators_with_two_certificates_of_one_state_one_executes() -> None:
    world = World(operators=2)
    first, second = world.operators
    first.propose(world, 10)
    for agent in world.agents.values():
        agent.judge(world)
    world.api.propose(world.proposal(6, 50), "operator")  # by the other, whose slot is another
    for agent in world.agents.values():
        agent.judge(world)
        agent.cast(world)
    for operator in world.operators:
        operator.count(world)
    first.certificate = certificate_at(world, 5)
    second.certificate = certificate_at(world, 6)
    first.execute(world)
    world.read(world.gateways)
    second.execute(world)
    assert world.api.index.epoch == 5
    # Nor does it help to write it over the first.
    world.usurp(Routing(6, OLD, NEW, 50, certificate=second.certificate))
    world.read(world.gateways)
    assert world.weights == [10, 10]


def certificate_at(world: World, epoch: int) -> Certificate:
    proposal = next(one for one, _ in world.api.decisions.values() if one.epoch == epoch)
    return world.any_certificate(proposal)


def test_two_operators_that_ask_for_different_things_in_one_slot_split_the_votes_and_the_next_epoch_decides() -> None:
    world = World(operators=2)
    for at, agent in enumerate(world.agents.values()):
        if at in (0, 4):
            world.api.propose(world.proposal(5, 10 if at == 0 else 50), "operator")
        agent.judge(world)
        agent.cast(world)
    assert lived(world) == [100, 100]


def test_a_liars_proposal_in_the_operators_slot_uses_up_nobodys_vote() -> None:
    world = World(liars=2)
    for epoch in range(5, 30):
        world.api.propose(world.proposal(epoch, 100), "agent-0")
    assert lived(world) == [100, 100]


def test_a_stale_copy_and_a_restored_status_raise_nothing() -> None:
    world = World()
    lived(world)
    operator = world.operators[0]
    operator.lower(world)
    world.read(world.gateways)
    for old in list(world.api.history):
        world.read(world.gateways, old)
        assert world.weights == [0, 0]
    world.usurp(world.api.history[-1])  # a backup from before the lowering
    world.read(world.gateways)
    assert world.weights == [0, 0]


def test_a_copy_that_lags_takes_less_and_the_next_reading_is_followed_again() -> None:
    world = World()
    lived(world)
    world.read(world.gateways, world.api.history[0])
    assert world.weights == [0, 0]
    world.read(world.gateways)
    assert world.weights == [100, 100]


def test_a_gateway_that_was_cut_off_takes_the_newest_raise_and_no_older_one() -> None:
    world = World()
    for _ in range(3):
        world.round()
    cut = world.gateways.pop()
    lived(world)
    world.read([cut])
    assert cut.weight == 100


@pytest.mark.parametrize("skew", [-SKEW, SKEW], ids=["behind", "ahead"])
@pytest.mark.parametrize("whose", ["agents", "gateways"])
def test_clocks_that_differ_by_half_a_minute_stop_nothing(whose: str, skew: timedelta) -> None:
    world = World()
    for one in [*world.agents.values()] if whose == "agents" else world.gateways:
        one.skew = skew
    assert lived(world) == [100, 100]


def test_three_agents_whose_clocks_are_an_hour_wrong_are_as_good_as_silent() -> None:
    world = World()
    for one in list(world.agents.values())[:3]:
        one.skew = timedelta(hours=1)
    assert lived(world) == [0, 0]


@pytest.mark.parametrize("slow", [2, 3])
def test_agents_whose_ballots_come_after_the_end_count_for_no_certificate_that_is_used(slow: int) -> None:
    world = World()
    world.operators[0].propose(world, 10)
    late = list(world.agents.values())[:slow]
    for agent in world.agents.values():
        agent.judge(world)
        if agent not in late:
            agent.cast(world)
    world.now += timedelta(minutes=6)
    for agent in late:
        agent.cast(world)
    world.operators[0].count(world)
    assert world.operators[0].certificate is None
    assert lived(world) == [100, 100]


def rotate(world: World, names: list[str]) -> None:
    world.wish(world.generations | {name: world.generations.get(name, 0) + 1 for name in names})


def test_keys_that_change_in_the_middle_of_a_vote_leave_one_vote_to_each_agent() -> None:
    world = World(liars=2)
    world.operators[0].propose(world, 10)
    first = next(iter(world.api.decisions.values()))[0]
    for agent in list(world.agents.values())[:3]:
        agent.judge(world)
        agent.cast(world)
    hidden = world.api.decisions.pop(first.name)  # the others hear of it later than of the new keys
    rotate(world, list(world.generations))
    for agent in world.agents.values():
        agent.judge(world)
        agent.cast(world)
    world.operators[0].count(world)
    assert world.api.office.version == 2
    world.api.decisions[first.name] = hidden
    for name in world.liars:
        world.lie(name, first, YES)
    assert lived(world, 2) == [0, 0]  # three votes are of old keys, and their agents have no other
    # The liars can put old and new votes together, and that is no quorum of any time.
    for gateway in world.gateways:
        gateway.read(Routing(5, OLD, NEW, 10, certificate=world.any_certificate(first)), world)
    assert world.weights == [0, 0]
    for _ in range(20):
        world.round()
        for proposal, _ in list(world.api.decisions.values()):
            for name in world.liars:
                world.lie(name, proposal, NO)
    assert world.weights == [100, 100]
    assert {gateway.version for gateway in world.gateways} == {2}


def test_a_certificate_of_members_that_were_replaced_is_refused_by_who_knows_and_asked_for_again() -> None:
    world = certified(World())
    old = world.operators[0].certificate
    rotate(world, ["agent-7"])
    world.gateways[0].version = 2
    lived(world, 1)
    world.operators[0].certificate = old
    world.operators[0].execute(world)
    world.read(world.gateways)
    assert old is not None
    assert lived(world) == [100, 100]


def test_members_whose_vote_failed_can_be_voted_on_again() -> None:
    world = World()
    silence(world, 3)
    rotate(world, ["agent-0"])
    lived(world, 8)
    assert world.api.office.version == 1
    for agent in world.agents.values():
        agent.alive = True
    world.wish(world.generations)
    assert lived(world, 20) == [100, 100]
    assert world.api.office.version == 3


def test_an_agent_that_comes_back_after_its_crash_makes_six_again() -> None:
    world = World()
    silence(world, 3)
    lived(world, 10)
    last = list(world.agents.values())[-1]
    last.alive = True
    assert lived(world) == [100, 100]


def test_with_a_quorum_of_five_the_world_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The world has teeth: with five of eight two raises of one epoch are accepted."""
    monkeypatch.setattr(Membership, "quorum", property(lambda _: 5))
    world = World(liars=2)
    first, second = world.proposal(5, 10), world.proposal(5, 50)
    for at, agent in enumerate(world.agents.values()):
        if at in (0, 3):
            world.api.propose(first if at == 0 else second, "operator")
        agent.judge(world)
        agent.cast(world)
        if at == 2:
            del world.api.decisions[first.name]
    world.read(world.gateways[:1], Routing(5, OLD, NEW, 10, certificate=world.any_certificate(first)))
    with pytest.raises(AssertionError, match="two raises in one epoch"):
        world.read(world.gateways[1:], Routing(5, OLD, NEW, 50, certificate=world.any_certificate(second)))
