"""Casts this agent's one Ballot in each slot: watches Decisions, has them judged, signs what comes of it.

A Ballot's name fixes slot and agent, so the API server takes one and no more: neither a second process of this agent
nor a restart in the middle can vote otherwise. What is sent again after an answer that was lost is the same Ballot.

An agent is silent about what is none of its business (no proposal, or one whose time is over), and refuses what it
cannot vouch for: an index that does not name this panel, or a judgement that did not come in time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Protocol

from reembed.api import InvalidField, parse_index
from reembed.api.panel import Ballot, Decision, parse_ballot, parse_decision, render_ballot
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError, Conflict, Object, Refused
from reembed.core.model import IndexSpec
from reembed.core.quorum.allowance import MOST_OPEN, Allowance
from reembed.core.quorum.certificates import LONGEST_OPEN, SKEW, Choice, Vote, ballot_message, evidence_digest
from reembed.core.quorum.judging import Judgement
from reembed.core.quorum.membership import Role
from reembed.core.quorum.proposals import Kind, Proposal, ballot_name
from reembed.panel.changing import obstacle
from reembed.panel.keys import MANAGER
from reembed.panel.seat import Seat
from reembed.panel.wishing import Around, Wish

# A judge measures what is missing for two minutes. One that has not answered after this never will.
JUDGE_SECONDS = 150.0
# A vote that is cast so long before the proposal's time is over can still be counted.
_ROOM_SECONDS = 10.0
# Of what is seen so soon after the start, this agent may have voted before. What comes later is new: a question less
# for the API server.
_OLD_SECONDS = 10.0
# Judged side by side, of the operator's proposals and of each agent's; each waits for measurements most of the time.
_AT_ONCE = 64
_OF_AGENT = 4
_AGAIN = 1.0
# Decisions that are remembered as seen to; of more, the API server is asked again whether they have its Ballot.
_MOST_KNOWN = 5000
OPERATOR = "operator"

_LOGGER = logging.getLogger("reembed.panel")


class Judge(Protocol):
    """Says what this agent thinks of a proposal; `panel.judge` has the real one."""

    async def run(self) -> None: ...

    async def judge(self, decision: Decision, now: datetime) -> Judgement: ...

    def wishes(self, now: datetime, duties: Collection[Role]) -> Sequence[tuple[Around, Wish]]: ...


class Voter:
    """One agent's votes."""

    def __init__(self, seat: Seat) -> None:
        self._cluster = seat.cluster
        self._settings = seat.settings
        self._office = seat.office
        self._heartbeats = seat.duties
        self._keys = seat.keys
        self._metrics = seat.metrics
        self._clock = seat.clock
        self._voting: dict[str, asyncio.Task[None]] = {}  # by the Decision's name, for as long as it exists
        self._slots: dict[str, asyncio.Semaphore] = {}  # by proposer
        self._allowance = Allowance()
        self._changes: set[str] = set()  # names of all Decisions of kind Membership, of which few are any
        self._changed = asyncio.Event()
        self._signed_in: dict[str, Ballot] = {}  # by slot
        self._began = 0.0
        self.watching = False

    async def run(self, judge: Judge) -> None:
        """Vote until cancelled, as `judge` says."""
        self._began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_changes(tasks, judge), name="changes of members")
            while True:
                began = asyncio.get_running_loop().time()
                try:
                    await self._watch(tasks, judge)
                except (ClusterError, OSError, TimeoutError, ValueError, KeyError) as error:
                    self.watching = False
                    _LOGGER.warning("the watch of Decisions ended: %s; it is begun again", _told(error))
                # It lists what there is when it begins. A server that ends it at once is not asked without a pause.
                if asyncio.get_running_loop().time() - began < _AGAIN:
                    await asyncio.sleep(_AGAIN)

    async def finish(self, seconds: float) -> None:
        """Wait for votes that are being cast, as far as `seconds` allow."""
        open_votes = [task for task in self._voting.values() if not task.done()]
        if open_votes:
            await asyncio.wait(open_votes, timeout=seconds)

    async def _watch(self, tasks: asyncio.TaskGroup, judge: Judge) -> None:
        self.watching = True
        if len(self._voting) > _MOST_KNOWN:
            self._voting = {name: task for name, task in self._voting.items() if not task.done()}
        self._changes.clear()  # all that there are come again
        async for event, raw in self._cluster.watch(kinds.DECISION, self._settings.namespace):
            name = raw["metadata"]["name"]
            if event == "DELETED":
                self._changes.discard(name)
                if (task := self._voting.pop(name, None)) is not None:
                    task.cancel()
            elif name not in self._voting and (decision := self._proposed(raw)) is not None:
                self._begin(decision, tasks, judge)

    def _proposed(self, raw: Object) -> Decision | None:
        """Return a Decision that may get this agent's vote now."""
        try:
            decision = parse_decision(raw)
        except InvalidField as error:
            _LOGGER.warning("a Decision is no proposal: %s; it gets no vote", error)
            return None
        proposal, name = decision.proposal, decision.meta.name
        if raw["spec"].get("slot") != proposal.slot:
            _LOGGER.warning("Decision %s names another slot than its proposal has; it gets no vote", name)
            return None
        if proposal.kind is Kind.MEMBERSHIP:
            # It has no end, and anybody may propose more of them than there is room for: only one may be wished for.
            self._changes.add(name)
            self._changed.set()
            return None
        if decision.proposer == OPERATOR or self._over(proposal):
            return decision
        if self._allowance.admits(decision.proposer, name, proposal.expires, self._clock()):
            return decision
        text = "Decision %s gets no vote: agent %s has %d open already; more than that no agent needs"
        _LOGGER.warning(text, name, decision.proposer, MOST_OPEN)
        return None

    def _begin(self, decision: Decision, tasks: asyncio.TaskGroup, judge: Judge) -> None:
        name = decision.meta.name
        self._voting[name] = tasks.create_task(self._consider(decision, judge), name=f"vote {name}")

    async def _follow_changes(self, tasks: asyncio.TaskGroup, judge: Judge) -> None:
        """Vote on the changes of members that the Panel asks for, whatever else is proposed in their slots."""
        while True:
            for proposal in self._office.proposals():
                running = self._voting.get(proposal.name)
                known = proposal.name in self._changes and proposal.slot not in self._signed_in
                if not known or (running is not None and not running.done()):
                    continue
                try:
                    raw = await self._cluster.get(kinds.DECISION, self._settings.namespace, proposal.name)
                    if raw is not None:
                        self._begin(parse_decision(raw), tasks, judge)
                except (ClusterError, InvalidField, TimeoutError) as error:
                    _LOGGER.warning("Decision %s was not read: %s; tried again", proposal.name, _told(error))
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(2 * _AGAIN):
                    await self._changed.wait()

    async def _consider(self, decision: Decision, judge: Judge) -> None:
        """Vote on one Decision if there is anything to say; nothing that happens here ends the agent."""
        await self._office.known.wait()
        try:
            await self._vote(decision, judge)
        except Exception as error:
            _LOGGER.error("no vote on Decision %s: %r", decision.meta.name, error, exc_info=error)

    async def _vote(self, decision: Decision, judge: Judge) -> None:
        proposal = decision.proposal
        began = asyncio.get_running_loop().time()
        old = proposal.kind is Kind.MEMBERSHIP or began - self._began < _OLD_SECONDS
        if self._over(proposal) or (old and await self._voted(proposal)):
            return
        ballot = self._signed_in.get(proposal.slot)
        if ballot is None:
            judged = await self._said(decision, judge)
            # Another proposal of the slot may have been faster.
            ballot = self._signed_in.get(proposal.slot) or (self._signed(proposal, judged) if judged else None)
        if ballot is None:
            return
        if ballot.digest != proposal.digest:
            _LOGGER.warning("Decision %s is another one of a slot that has a vote; it gets none", decision.meta.name)
            return
        self._remember(ballot)
        await self._cast(ballot, decision)
        self._metrics.vote_seconds.observe(asyncio.get_running_loop().time() - began)

    def _remember(self, ballot: Ballot) -> None:
        """Note what was signed in a slot: who clears a Decision away, and the Ballots with it, gets no other vote."""
        self._signed_in[ballot.slot] = ballot
        while len(self._signed_in) > _MOST_KNOWN:
            del self._signed_in[next(iter(self._signed_in))]

    async def _said(self, decision: Decision, judge: Judge) -> Judgement | None:
        if decision.proposal.kind is Kind.MEMBERSHIP:
            return await self._when_agreed(decision.proposal)
        async with self._place(decision.proposer):
            return await self._judged(decision, judge)

    def _place(self, proposer: str) -> asyncio.Semaphore:
        """Return where to wait for a judgement: nobody's proposals keep another's waiting."""
        active = self._office.active
        known = proposer == OPERATOR or (active is not None and active.member(proposer) is not None)
        most = _AT_ONCE if proposer == OPERATOR else _OF_AGENT
        return self._slots.setdefault(proposer if known else "", asyncio.Semaphore(most))

    def _over(self, proposal: Proposal) -> bool:
        return self._clock() > proposal.expires

    async def _voted(self, proposal: Proposal) -> bool:
        """Return whether this agent has a Ballot in the slot from before; unknown is no: the name decides then."""
        name = ballot_name(proposal.slot, self._settings.agent)
        try:
            found = await self._cluster.get(kinds.BALLOT, self._settings.namespace, name)
            if found is not None:
                self._remember(parse_ballot(found))
        except (ClusterError, InvalidField):
            return False
        return found is not None

    async def _judged(self, decision: Decision, judge: Judge) -> Judgement:
        """Return what to say, in time for it to count."""
        now = self._clock()
        until = (decision.proposal.expires - now).total_seconds()
        # Of what is nearly over, half of the time that there is.
        left = min(JUDGE_SECONDS, max(until - _ROOM_SECONDS, until / 2))
        refused: Judgement | None
        try:
            async with asyncio.timeout(max(left, 0.0)):
                refused = self._not_proposed_well(decision, now) or await self._foreign(decision.proposal)
                return refused or _written(await judge.judge(decision, now))
        except TimeoutError:
            return _refusal(
                "NotMeasured", f"no judgement within {left:.0f} s; nobody can vouch for what was not measured"
            )
        except Exception as error:
            _LOGGER.error("Decision %s could not be judged: %r", decision.meta.name, error, exc_info=error)
            return _refusal("NotMeasured", f"the agent's judgement failed ({type(error).__name__}); see its log")

    def _not_proposed_well(self, decision: Decision, now: datetime) -> Judgement | None:
        active, proposal = self._office.active, decision.proposal
        if decision.proposer != OPERATOR and (active is None or active.member(decision.proposer) is None):
            return _refusal("ProposerUnknown", f"{decision.proposer!r} is neither the operator nor a member")
        if proposal.expires > now + LONGEST_OPEN + SKEW:
            return _refusal("ExpiryTooFar", f"it is to be used until {proposal.expires:%H:%M:%S} UTC: too long")
        return None

    async def _foreign(self, proposal: Proposal) -> Judgement | None:
        """Return why the index is not this panel's to decide about, None if it is."""
        subject, here = proposal.subject, self._settings
        named = f"{subject.namespace}/{subject.name}"
        if subject.namespace not in here.namespaces:
            return _refusal("IndexUnknown", f"index {named} is in no namespace that this panel watches")
        found = await self._index(subject.namespace, subject.name)
        if found is None:
            return _refusal("IndexUnknown", f"there is no index {named}")
        uid, spec = found
        if uid != subject.uid:
            return _refusal("IndexUnknown", f"index {named} has the UID {uid}, not {subject.uid}")
        ref = spec.panel
        if ref is None or (ref.namespace, ref.name) != (here.namespace, here.panel):
            return _refusal(
                "PanelForeign", f"the panelRef of index {named} does not name {here.namespace}/{here.panel}"
            )
        if ref.digest != self._office.anchor:
            return _refusal("PanelForeign", f"the panelRef of index {named} names first members of another digest")
        return None

    async def _index(self, namespace: str, name: str) -> tuple[str, IndexSpec] | None:
        """Read the index; without an answer once more, until there is no time left."""
        while True:
            try:
                found = await self._cluster.get(kinds.INDEX, namespace, name)
            except Refused:
                raise
            except ClusterError:
                await asyncio.sleep(_AGAIN)
                continue
            if found is None:
                return None
            meta, spec, _ = parse_index(found)
            return meta.uid, spec

    async def _when_agreed(self, proposal: Proposal) -> Judgement | None:
        """Wait until a change of members is what this agent wants too; None once another one is wished for."""
        while proposal == self._office.proposal(proposal.epoch):
            missing = obstacle(self._office, self._heartbeats)
            if missing is None and await self._keys.vow(proposal.epoch, proposal.digest) == proposal.digest:
                return Judgement(Choice.APPROVE, ("Wished: these are the members that the Panel asks for",), {})
            if missing is None:
                return _refusal("SlotTaken", "it has signed for other members in this slot; the next one is free")
            _LOGGER.info("a change of members waits: %s", missing)
            await asyncio.sleep(2 * _AGAIN)
        return None

    def _signed(self, proposal: Proposal, judged: Judgement) -> Ballot | None:
        active, kept = self._office.active, self._heartbeats.kept()
        key = kept.signing(active, self._settings.agent) if kept is not None and active is not None else None
        if key is None:
            _LOGGER.warning("the membership in office names no key of this agent; it casts no vote")
            return None
        digest, evidence = proposal.digest, evidence_digest(judged.evidence)
        signature = key.sign(ballot_message(digest, proposal.slot, judged.choice, evidence))
        vote = Vote(key.public, evidence, signature)
        reasons = tuple(reason[:1024] for reason in judged.reasons[:16])
        return Ballot(
            self._settings.agent, proposal.slot, digest, judged.choice, vote, reasons, evidence=judged.evidence
        )

    async def _cast(self, ballot: Ballot, decision: Decision) -> None:
        """Create the Ballot; what was lost on the way is sent again as it is."""
        body = render_ballot(ballot, self._settings.namespace, decision.meta)
        while not self._over(decision.proposal):
            try:
                await self._cluster.create(kinds.BALLOT, self._settings.namespace, body, manager=MANAGER)
            except Conflict:
                # From before, or of another process of this agent: the first one stands.
                _LOGGER.info("Ballot %s is there already", body["metadata"]["name"])
                return
            except ClusterError as error:
                if (
                    isinstance(error, Refused) and error.status != 403
                ):  # rights may come; what is no Ballot never is one
                    _LOGGER.error(
                        "Ballot %s is none: %s; there is no vote of this agent", body["metadata"]["name"], error
                    )
                    return
                _LOGGER.warning("Ballot %s: %s; sent again in %g s", body["metadata"]["name"], error, _AGAIN)
                await asyncio.sleep(_AGAIN)
            else:
                self._metrics.votes.labels(decision.proposal.kind.value, ballot.choice.value).inc()
                _LOGGER.info(
                    "%s %s on %s/%s epoch %d: %s",
                    ballot.choice.value,
                    decision.proposal.kind.value,
                    decision.proposal.subject.namespace,
                    decision.proposal.subject.name,
                    decision.proposal.epoch,
                    ballot.reasons[0] if ballot.reasons else "",
                )
                return


def _written(judged: Judgement) -> Judgement:
    """Return the judgement if its evidence can be written down.

    Raises:
        ValueError: it has numbers that JSON cannot carry.

    """
    evidence_digest(judged.evidence)
    return judged


def _refusal(reason: str, message: str) -> Judgement:
    return Judgement(Choice.REJECT, (f"{reason}: {message}",), {})


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__
