"""Agents of a panel as tasks of one process, on any API server: their keys are theirs, their judges the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from reembed import signing
from reembed.api.panel import membership_json, parse_panel, render_decision
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError
from reembed.core import names
from reembed.core.model import Arm, Routing
from reembed.core.quorum import raising
from reembed.core.quorum.certificates import Certificate, Certified, Choice
from reembed.core.quorum.counting import Count, Standing, count
from reembed.core.quorum.judging import Judgement
from reembed.core.quorum.membership import Member, Membership, Role, decoded
from reembed.core.quorum.proposals import Kind, Proposal, Side, Split, Subject
from reembed.panel.agent import Agent
from reembed.panel.coordinator import casts
from reembed.panel.keys import ANNOTATION_KEY
from reembed.panel.metrics import Metrics
from reembed.panel.seat import wall_clock
from reembed.panel.settings import ROLES, Settings

NAMES = tuple(ROLES)
OLD = Side("old", "uid-old", "c_old", "fp-old")
NEW = Side("new", "uid-new", "c_new", "fp-new")
PANEL = "panel"
_SPEC = {
    "store": {
        "ownerSecretRef": {"name": "store", "key": "owner"},
        "gatewaySecretRef": {"name": "store", "key": "gateway"},
        "gatewayRole": "reembed_gateway",
    },
    "source": {"table": "docs", "idColumn": "id", "textColumn": "body"},
}

T = TypeVar("T")


class Saying:
    """A judge that says the same of everything, after a while."""

    def __init__(self, choice: Choice = Choice.APPROVE, *, after: float = 0.0, evidence: Any = None) -> None:
        self.choice = choice
        self.after = after
        self.evidence = {"measured": 1} if evidence is None else evidence
        self.asked = 0

    async def run(self) -> None:
        await asyncio.Event().wait()

    def wishes(self, now: datetime, duties: Collection[Role]) -> list[Any]:
        del now, duties
        return []

    async def judge(self, decision: Any, now: datetime) -> Judgement:
        del decision, now
        self.asked += 1
        await asyncio.sleep(self.after)
        return Judgement(self.choice, (f"Told: the test says {self.choice.value}",), self.evidence)


class Living:
    """One agent that runs; `kill` ends it as a killed process ends."""

    def __init__(self, cluster: Cluster, settings: Settings, judge: Any, clock: Callable[[], datetime]) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.agent = Agent(cluster, settings, lambda _: nullcontext(judge), self.metrics, clock)
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(self.agent.run(self.stop), name=settings.agent)

    async def kill(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def drain(self) -> None:
        self.stop.set()
        await self.task


@dataclass
class Panel:
    """Eight agents and their Panel in one namespace, with indexes in the same."""

    cluster: Cluster
    namespace: str
    names: tuple[str, ...] = NAMES
    living: dict[str, Living] = field(default_factory=dict)
    anchor: str = ""
    clock: Callable[[], datetime] = wall_clock

    def settings(self, name: str, role: Role | None = None) -> Settings:
        return Settings(
            role or ROLES.get(name, Role.PATTERN_LEARNER), name, PANEL, self.namespace, (self.namespace,), f"pod-{name}"
        )

    def start(
        self,
        name: str,
        judge: Any = None,
        *,
        clock: Callable[[], datetime] | None = None,
        cluster: Cluster | None = None,
    ) -> Living:
        found = Living(cluster or self.cluster, self.settings(name), judge or Saying(), clock or self.clock)
        self.living[name] = found
        return found

    async def kill(self, *which: str) -> None:
        for name in which or tuple(self.living):
            await self.living.pop(name).kill()

    async def key(self, name: str) -> bytes | None:
        """Return the public key that an agent publishes."""
        found = await self.cluster.get(kinds.LEASE, self.namespace, self.settings(name).account)
        text = ((found or {}).get("metadata", {}).get("annotations") or {}).get(ANNOTATION_KEY)
        return decoded(text) if text else None

    async def found(self, faulty: int = 2) -> Membership:
        """Write the Panel with the keys that the agents publish, and wait until it is in office."""
        members = tuple(
            [Member(name, ROLES[name], await eventually(lambda n=name: self.key(n))) for name in self.names]
        )
        membership = Membership(1, faulty, members)
        meta = {"namespace": self.namespace, "name": PANEL}
        body = {"metadata": meta, "spec": membership_json(membership)}
        await self.cluster.apply(kinds.PANEL, body, manager="reembed-test")
        chain = await eventually(self.chain)
        self.anchor = chain[0].membership.digest
        return membership

    async def wish(self, membership: Membership) -> None:
        body = {"metadata": {"namespace": self.namespace, "name": PANEL}, "spec": membership_json(membership)}
        await self.cluster.apply(kinds.PANEL, body, manager="reembed-test")

    async def raw(self) -> dict[str, Any]:
        found = await self.cluster.get(kinds.PANEL, self.namespace, PANEL)
        assert found is not None
        return found

    async def chain(self) -> tuple[Certified, ...]:
        return parse_panel(await self.raw()).chain

    async def index(self, name: str, panel: dict[str, str] | None = None) -> str:
        """Make an index that refers to this panel; return its UID."""
        ref = panel or {"namespace": self.namespace, "name": PANEL, "digest": self.anchor}
        body = {"metadata": {"namespace": self.namespace, "name": name}, "spec": {**_SPEC, "panelRef": ref}}
        made = await self.cluster.create(kinds.INDEX, self.namespace, body, manager="reembed-test")
        return str(made["metadata"]["uid"])

    def raising(self, index: str, uid: str, epoch: int, *, to: int = 50, seconds: float = 300) -> Proposal:
        return Proposal(
            kind=Kind.TRAFFIC,
            subject=Subject(self.namespace, index, uid, "to-new", "uid-migration"),
            epoch=epoch,
            before=Split(epoch - 1, 10, OLD, NEW),
            after=Split(epoch, to, OLD, NEW),
            terms="0" * 64,
            # Objects have milliseconds.
            expires=(self.clock() + timedelta(seconds=seconds)).replace(microsecond=0),
        )

    async def propose(self, proposal: Proposal, proposer: str = "operator") -> str:
        body = render_decision(proposal, self.namespace, proposer)
        made = await self.cluster.create(kinds.DECISION, self.namespace, body, manager="reembed-test")
        return str(made["metadata"]["uid"])

    async def ballots(self, proposal: Proposal) -> list[dict[str, Any]]:
        selector = f"{names.LABEL_SLOT}={proposal.slot}"
        return await self.cluster.list(kinds.BALLOT, self.namespace, selector=selector)

    async def counted(self, proposal: Proposal) -> Count:
        ballots = casts(await self.ballots(proposal))
        return count(proposal, ballots, await self.chain(), self.clock(), signing.verify)

    async def certificate(self, proposal: Proposal, seconds: float = 20) -> Certificate:
        async def found() -> Certificate | None:
            return (await self.counted(proposal)).certificate

        return await eventually(found, seconds)

    async def said(self, proposal: Proposal, voters: int, seconds: float = 20) -> Count:
        """Return the count once so many have voted."""

        async def found() -> Count | None:
            counted = await self.counted(proposal)
            return counted if len(counted.approved) + len(counted.refused) >= voters else None

        return await eventually(found, seconds)


def obeyed(panel: Panel, certificate: Certificate, uid: str) -> bool:
    """Return whether a gateway would follow what the certificate is about."""
    after, before = certificate.proposal.after, certificate.proposal.before
    held, told = _routing(before), _routing(after, certificate)
    trust = raising.Trust(uid, panel.anchor)
    return raising.uncertified(held, told, trust, panel.clock(), signing.verify) is None


def _routing(split: Split, certificate: Certificate | None = None) -> Routing:
    arms = [Arm(one.pool, one.collection, one.fingerprint) if one else None for one in (split.serving, split.candidate)]
    return Routing(split.epoch, arms[0], arms[1], split.weight, certificate=certificate)


async def eventually(ask: Callable[[], Awaitable[T | None]], seconds: float = 20) -> T:
    """Ask again and again until there is an answer that says something."""
    async with asyncio.timeout(seconds):
        while True:
            # A server that has just been given its CRDs refuses for some seconds.
            with suppress(ClusterError):
                if found := await ask():
                    return found
            await asyncio.sleep(0.05)


@asynccontextmanager
async def panel_of(
    cluster: Cluster, namespace: str, judges: dict[str, Any] | None = None, silent: Sequence[str] = ()
) -> AsyncIterator[Panel]:
    """Run a panel in office; `silent` agents end once they are members."""
    panel = Panel(cluster, namespace)
    try:
        for name in panel.names:
            panel.start(name, (judges or {}).get(name))
        await panel.found()
        await panel.kill(*silent) if silent else None
        yield panel
    finally:
        await panel.kill()


def others(panel: Panel, *but: str) -> Iterable[str]:
    return (name for name in panel.names if name not in but)


__all__ = ["NAMES", "Living", "Panel", "Saying", "Standing", "eventually", "obeyed", "others", "panel_of"]
