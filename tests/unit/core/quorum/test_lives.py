"""Random lives of a panel of eight of which two lie: whatever happens, in whatever order, nothing ever goes wrong.

After each life, all faults end but those of the liars, and the candidate gets its queries.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from reembed.core.model import Routing
from reembed.core.quorum.certificates import SKEW, Choice
from reembed.core.quorum.counting import Cast
from tests.panel_world import NEW, OLD, STEPS, Operator, World, public_key, vote_of

AGENT = st.integers(0, 7).map("agent-{}".format)
HONEST = st.integers(2, 7).map("agent-{}".format)
LIAR = st.integers(0, 1).map("agent-{}".format)
EITHER = st.integers(0, 1)
WEIGHT = st.sampled_from(STEPS)
CHOICE = st.sampled_from(Choice)
SKEWS = st.sampled_from([-SKEW, timedelta(), SKEW])
PICK = st.integers(0, 1_000)


class Lives(RuleBasedStateMachine):
    @initialize(skews=st.lists(SKEWS, min_size=10, max_size=10))
    def begin(self, skews: list[timedelta]) -> None:
        self.world = World(liars=2, operators=2)
        self.rotations = 0
        for one, skew in zip([*self.world.agents.values(), *self.world.gateways], skews, strict=False):
            one.skew = skew

    # Those who do what they should, in any order and as late as it comes.

    @rule(which=EITHER, weight=WEIGHT)
    def an_operator_proposes(self, which: int, weight: int) -> None:
        self.world.operators[which].propose(self.world, weight)

    @rule(weight=WEIGHT, ahead=st.integers(0, 2))
    def another_operator_proposes_at_the_same_time(self, weight: int, ahead: int) -> None:
        world = self.world
        world.api.propose(world.proposal(world.api.index.epoch + 1 + ahead, weight), "operator")

    @rule(name=HONEST)
    def an_agent_judges(self, name: str) -> None:
        agent = self.world.agents[name]
        if agent.alive:
            agent.judge(self.world)

    @rule(name=HONEST)
    def an_agent_casts_what_it_judged(self, name: str) -> None:
        agent = self.world.agents[name]
        if agent.alive:
            agent.cast(self.world)

    @rule()
    def all_agents_vote(self) -> None:
        for agent in self.world.agents.values():
            if agent.alive:
                agent.judge(self.world)
                agent.cast(self.world)

    @rule(weight=WEIGHT, help_of_liars=st.booleans())
    def a_step_is_proposed_and_voted_on(self, weight: int, help_of_liars: bool) -> None:
        world = self.world
        epochs = [one.epoch for one, proposer in world.api.decisions.values() if proposer == "operator"]
        proposal = world.proposal(max([*epochs, world.api.index.epoch]) + 1, weight)
        world.api.propose(proposal, "operator")
        for name in world.liars if help_of_liars else ():
            world.lie(name, proposal, Choice.APPROVE)
        self.all_agents_vote()

    @rule(which=EITHER, to=EITHER, weight=st.sampled_from([10, 50, 100]), help_of_liars=st.booleans())
    def a_step_goes_all_the_way(self, which: int, to: int, weight: int, help_of_liars: bool) -> None:
        self.a_step_is_proposed_and_voted_on(weight, help_of_liars)
        self.what_is_certified_is_executed_and_read(which, to)

    @rule(which=EITHER, to=EITHER)
    def what_is_certified_is_executed_and_read(self, which: int, to: int) -> None:
        self.world.operators[which].count(self.world)
        self.world.operators[which].execute(self.world)
        self.world.read([self.world.gateways[to]])

    @rule(which=EITHER, to=EITHER)
    def what_is_lowered_is_read(self, which: int, to: int) -> None:
        self.world.operators[which].lower(self.world)
        self.world.read([self.world.gateways[to]])

    @rule(which=EITHER)
    def an_operator_counts(self, which: int) -> None:
        self.world.operators[which].count(self.world)

    @rule(which=EITHER)
    def an_operator_executes(self, which: int) -> None:
        self.world.operators[which].execute(self.world)

    @rule(which=EITHER)
    def a_gateway_reads(self, which: int) -> None:
        self.world.read([self.world.gateways[which]])

    @rule(seconds=st.sampled_from([1, 60, 400]))
    def time_goes_on(self, seconds: int) -> None:
        self.world.now += timedelta(seconds=seconds)

    @rule(good=st.sampled_from([True, True, False]))
    def the_candidate_becomes(self, good: bool) -> None:
        self.world.good = good

    # What fails.

    @rule(name=HONEST)
    def an_agent_crashes_or_comes_back(self, name: str) -> None:
        agent = self.world.agents[name]
        if agent.alive:
            agent.crash()
        else:
            agent.alive = True

    @rule(which=EITHER)
    def an_operator_crashes(self, which: int) -> None:
        self.world.operators[which] = Operator()

    @rule(which=EITHER, pick=PICK)
    def a_gateway_reads_a_stale_copy(self, which: int, pick: int) -> None:
        history = self.world.api.history
        if history:
            self.world.read([self.world.gateways[which]], history[pick % len(history)])

    @rule(pick=PICK)
    def the_index_is_restored_from_a_backup(self, pick: int) -> None:
        history = self.world.api.history
        if history:
            self.world.usurp(history[pick % len(history)])

    @rule(names=st.sets(AGENT, min_size=1), voted=st.booleans())
    def keys_are_changed(self, names: set[str], voted: bool) -> None:
        if self.rotations < 3:
            self.rotations += 1
            old = self.world.generations
            self.world.wish(old | {name: old[name] + 1 for name in names if name in old})
            if voted:
                self.all_agents_vote()
                self.world.operators[0].count(self.world)

    @rule(name=HONEST, voted=st.booleans())
    def a_member_is_replaced(self, name: str, voted: bool) -> None:
        old = self.world.generations
        if "agent-8" not in old:
            self.world.wish({one: at for one, at in old.items() if one != name} | {"agent-8": 0})
            if voted:
                self.all_agents_vote()
                self.world.operators[0].count(self.world)

    # Those who lie.

    @rule(name=LIAR, pick=PICK, choice=CHOICE)
    def a_liar_votes(self, name: str, pick: int, choice: Choice) -> None:
        decisions = list(self.world.api.decisions.values())
        if decisions:
            self.world.lie(name, decisions[pick % len(decisions)][0], choice)

    @rule(name=LIAR, pick=PICK)
    def a_liar_casts_somebody_elses_ballot(self, name: str, pick: int) -> None:
        ballots = list(self.world.api.ballots.items())
        if ballots:
            of, ballot = ballots[pick % len(ballots)]
            self.world.api.cast(name, of.split(".")[0], ballot)

    @rule(name=LIAR, victim=HONEST, pick=PICK)
    def a_liar_forges_a_vote(self, name: str, victim: str, pick: int) -> None:
        decisions = list(self.world.api.decisions.values())
        if decisions:
            proposal = decisions[pick % len(decisions)][0]
            vote = replace(vote_of(public_key(name, 0), proposal, Choice.APPROVE), key=public_key(victim, 0))
            self.world.api.cast(name, proposal.slot, Cast(proposal.digest, Choice.APPROVE, vote))

    @rule(name=LIAR, ahead=st.integers(1, 9), weight=WEIGHT)
    def a_liar_proposes(self, name: str, ahead: int, weight: int) -> None:
        world = self.world
        world.api.propose(world.proposal(world.api.index.epoch + ahead, weight), name)

    @rule(pick=PICK, which=EITHER, weight=st.sampled_from([None, None, 0, 100]))
    def an_operator_lies(self, pick: int, which: int, weight: int | None) -> None:
        """A gateway is told a routing with the certificate that can be put together for one of the likeliest."""
        decisions = [proposal for proposal, _ in self.world.api.decisions.values()]
        decisions.sort(key=lambda one: len(self.world.approved.get(one.digest, ())), reverse=True)
        if decisions:
            proposal = decisions[pick % min(4, len(decisions))]
            told = Routing(proposal.epoch, OLD, NEW, proposal.after.weight if weight is None else weight)
            told = replace(told, certificate=self.world.any_certificate(proposal))
            self.world.read([self.world.gateways[which]], told)

    @invariant()
    def nothing_is_wrong(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        """End all faults but the liars': then it goes on, past every epoch that was used up."""
        world = getattr(self, "world", None)
        if world is None:
            return
        world.good = True
        for agent in world.agents.values():
            agent.alive = True
        known = max([gateway.accepted.epoch for gateway in world.gateways] + [world.api.index.epoch])
        # As an operator does that finds gateways beyond what it has: `core.recovery`.
        world.usurp(Routing(known + 1, OLD, NEW, 0))
        if world.api.wish != world.api.office:
            world.wish(world.generations)
        for _ in range(40):
            if world.weights != [100, 100]:
                world.round()
        assert world.weights == [100, 100]


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
