"""What the operator and a gateway do with a panel, without either: proposes, counts, verifies."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

from reembed import signing
from reembed.api.fields import InvalidField
from reembed.api.panel import parse_ballot, render_decision
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError, Gone
from reembed.core.model import Arm, Routing
from reembed.core.quorum import raising
from reembed.core.quorum.certificates import Certificate, Certified
from reembed.core.quorum.counting import Cast, count
from reembed.core.quorum.proposals import Kind, Proposal, Side, Split, Subject

OLD = Side("old", "uid-old", "c_old", "fp-old")
NEW = Side("new", "uid-new", "c_new", "fp-new")
_ARMS = [Arm(one.pool, one.collection, one.fingerprint) for one in (OLD, NEW)]


@dataclass
class Vote:
    """One proposal under way."""

    proposal: Proposal
    casts: dict[str, Cast] = field(default_factory=dict)
    more: asyncio.Event = field(default_factory=asyncio.Event)


class Proposer:
    """Watches the Ballots, and times each certificate from before its Decision is sent."""

    def __init__(self, cluster: Cluster, namespace: str, chain: tuple[Certified, ...]) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._chain = chain
        self._anchor = chain[0].membership.digest
        self._votes: dict[str, Vote] = {}
        self.watching = asyncio.Event()

    async def watch(self) -> None:
        while True:
            try:
                self.watching.set()
                async for _, raw in self._cluster.watch(kinds.BALLOT, self._namespace):
                    self._seen(raw)
            except Gone:
                continue
            except ClusterError:
                await asyncio.sleep(0.1)

    def _seen(self, raw: dict[str, Any]) -> None:
        vote = self._votes.get(raw["spec"]["slot"])
        if vote is None:
            return
        try:
            one = parse_ballot(raw)
        except InvalidField:
            return
        vote.casts[one.agent] = Cast(one.digest, one.choice, one.vote, one.reasons)
        vote.more.set()

    async def decide(self, index: Subject, epoch: int, seconds: float) -> float | None:
        """Return the milliseconds until a gateway would obey the raise, None without a certificate in time."""
        expires = (datetime.now(UTC) + timedelta(seconds=seconds + 60)).replace(microsecond=0)
        split = (Split(epoch - 1, 10, OLD, NEW), Split(epoch, 50, OLD, NEW))
        proposal = Proposal(Kind.TRAFFIC, index, epoch, *split, terms="0" * 64, expires=expires)
        vote = self._votes[proposal.slot] = Vote(proposal)
        body = render_decision(proposal, self._namespace, "operator")
        began = perf_counter()
        try:
            async with asyncio.timeout(seconds):
                await self._cluster.create(kinds.DECISION, self._namespace, body, manager="bench")
                while (certificate := self._counted(vote)) is None:
                    vote.more.clear()
                    await vote.more.wait()
        except TimeoutError:
            return None
        finally:
            del self._votes[proposal.slot]
        if not self._obeyed(certificate, index.uid):
            raise RuntimeError(f"no gateway would obey the certificate of {proposal.name}")
        return 1000 * (perf_counter() - began)

    def _counted(self, vote: Vote) -> Certificate | None:
        if len(vote.casts) < self._chain[-1].membership.quorum:
            return None
        return count(vote.proposal, vote.casts.values(), self._chain, datetime.now(UTC), signing.verify).certificate

    def _obeyed(self, certificate: Certificate, uid: str) -> bool:
        before, after = certificate.proposal.before, certificate.proposal.after
        held = Routing(before.epoch, *_ARMS, before.weight)
        told = Routing(after.epoch, *_ARMS, after.weight, certificate=certificate)
        trust = raising.Trust(uid, self._anchor)
        return raising.uncertified(held, told, trust, datetime.now(UTC), signing.verify) is None
