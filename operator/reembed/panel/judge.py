"""The judging half of an agent: keeps its evidence warm and says what it thinks of each proposal.

`run` looks at every index that asks this panel and that a migration holds, every few seconds; `judge` answers from what
is known. Objects are read anew for each proposal, since a step may follow another at once. What a proposal needs and
nobody has measured is measured then, for as long as there is time; a rejection is a vote that cannot be taken back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from reembed.api.fields import InvalidField
from reembed.api.panel import Decision
from reembed.cluster.client import Cluster, ClusterError
from reembed.core import names
from reembed.core.quorum import roles
from reembed.core.quorum.certificates import Choice
from reembed.core.quorum.evidence import Evidence, Objects, PanelObject
from reembed.core.quorum.judging import Judgement, judge
from reembed.core.quorum.membership import Role
from reembed.core.quorum.proposals import Kind, Proposal, Subject
from reembed.panel import labels
from reembed.panel.measure import Means, Measured
from reembed.panel.objects import Around, ObjectReader
from reembed.panel.probes import Prober

_log = logging.getLogger(__name__)

INTERVAL = 10.0
# Objects that were read this long ago are read again before a vote.
_OBJECTS = timedelta(seconds=2)
# So long before a proposal ends its voters should have voted; longer than this nobody waits for measurements.
_ROOM = timedelta(seconds=30)
_PATIENCE = 120.0
_PAUSE = 2.0
# Findings that measuring on may heal; all others are known for good once the objects are of now.
_MAY_HEAL = frozenset({
    "NotMeasured", "Stale", "ObjectsNotRead", "ObjectsOld", "BeforeOther", "ProbesTooFew", "RetrievalNotMeasured",
    "SampleNotMeasured", "SampleTooSmall", "WaitingForGateways", "GatewaysSilent", "MemoryNotMeasured", "HoldNotSeen",
    "LatencyNotMeasured", "SidesUnknown", "NotHolder", "Holding", "PointerInconsistent", "ProbesFail", "NoPods",
    "GatewaysWithhold", "GatewayMissing", "QueueNotMeasured", "CandidateOther",
})  # fmt: skip
# A drift that is found for shorter than this is something on its way.
_DRIFT = timedelta(seconds=60)
_SLOTS = 4096


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose judge it is: the panel's namespace and name, its role, the seed of its chance, and where stores' files are.

    `namespaces` are those whose indexes are looked at; none are all.
    """

    panel: tuple[str, str]
    role: Role
    seed: bytes
    stores: Path
    namespaces: tuple[str, ...] = ()
    port: int = names.PORT


class Judge:
    """One agent's judgement. Use `async with Judge.of(cluster, whose) as judge:`."""

    def __init__(self, cluster: Cluster, whose: Whose, session: aiohttp.ClientSession) -> None:
        self._whose = whose
        self._objects = ObjectReader(cluster, whose.panel, whose.namespaces)
        self._prober = Prober(session, whose.seed, whose.port)
        self._means = Means(session, self._prober, whose.stores, whose.seed, whose.port, labels.reader(cluster))
        self._measured: dict[tuple[str, str], Measured] = {}
        self._slots: OrderedDict[str, str] = OrderedDict()
        self._drift_since: dict[tuple[str, str, Role], datetime] = {}

    @classmethod
    @asynccontextmanager
    async def of(cls, cluster: Cluster, whose: Whose) -> AsyncIterator[Judge]:
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32), cookie_jar=aiohttp.DummyCookieJar())
        async with session:
            judge = cls(cluster, whose, session)
            try:
                yield judge
            finally:
                await judge.close()

    async def run(self) -> None:
        """Look every few seconds, for ever."""
        while True:
            left = await self._round()
            # Where a half is still being measured there is no use in waiting for the next turn.
            await asyncio.sleep(_PAUSE if left else INTERVAL)

    async def judge(self, decision: Decision, now: datetime) -> Judgement:
        """Return what the agent votes."""
        proposal = decision.proposal
        earlier = self._slots.setdefault(proposal.slot, proposal.digest)
        while len(self._slots) > _SLOTS:
            self._slots.popitem(last=False)
        if proposal.kind is Kind.MEMBERSHIP:
            return judge(proposal, Evidence(panel=await self._panel(), other=earlier), now)
        found = await self._judged(proposal, earlier, now)
        until = min(proposal.expires - _ROOM, now + timedelta(seconds=_PATIENCE))
        while not _final(found) and datetime.now(UTC) < until:
            await asyncio.sleep(_PAUSE)
            await self._look(proposal.subject)
            found = await self._judged(proposal, earlier, datetime.now(UTC))
        return found

    def wishes(self, now: datetime, duties: Collection[Role]) -> list[tuple[Around, roles.Wish]]:
        """Return what the roles whose work the agent has would propose now, with the objects that each is about."""
        found = []
        for (namespace, index), measured in self._measured.items():
            for role in duties:
                wished, key = roles.wishes(role, measured.evidence, now), (namespace, index, role)
                if not wished:
                    self._drift_since.pop(key, None)
                    continue
                since = self._drift_since.setdefault(key, now)
                if now - since >= _DRIFT and measured.around is not None:
                    found += [(measured.around, one) for one in wished]
        return found

    async def close(self) -> None:
        for one in self._measured.values():
            await one.close()
        self._measured.clear()

    async def _judged(self, proposal: Proposal, earlier: str, now: datetime) -> Judgement:
        measured = await self._read(proposal.subject)
        evidence = replace(measured.evidence, other=earlier) if measured is not None else Evidence(other=earlier)
        # Time went on while objects were read.
        later = max(now, datetime.now(UTC)) if evidence.objects is not None else now
        return judge(proposal, evidence, later, roles.deep(self._whose.role, proposal.kind))

    async def _read(self, subject: Subject) -> Measured | None:
        """Return what is known of a proposal's index, with its objects of now."""
        key = (subject.namespace, subject.name)
        before = self._measured.get(key)
        known = before.around if before is not None else None
        if before is None or known is None or not _about(known.objects, subject):
            await self._look(subject)
            return self._measured.get(key)
        if datetime.now(UTC) - known.objects.at > _OBJECTS:
            try:
                objects = await self._objects.objects(*key, subject.migration or None)
            except (ClusterError, aiohttp.ClientError, TimeoutError, InvalidField):
                return before  # what is known grows old by itself
            if objects is None:
                return None
            # Pools and pods are those of the last look, which is not long ago.
            before.read(replace(known, objects=replace(objects, pools=known.objects.pools)))
        return before

    async def _look(self, subject: Subject) -> None:
        try:
            around = await self._objects.look(subject.namespace, subject.name, subject.migration or None)
        except (ClusterError, aiohttp.ClientError, TimeoutError, InvalidField) as error:
            _log.warning("index %s/%s cannot be read: %s", subject.namespace, subject.name, error)
            return
        if around is not None:
            await self._of(around).look(around, asked=True)

    async def _round(self) -> bool:
        """Look at everything once, and return whether there is more to measure."""
        try:
            keys = await self._objects.indexes()
        except (ClusterError, aiohttp.ClientError, TimeoutError) as error:
            _log.warning("the panel's indexes cannot be listed: %s", error)
            return False
        for key in set(self._measured) - set(keys):
            await self._measured.pop(key).close()
        found = await asyncio.gather(*(self._one(*key) for key in keys))
        self._prober.forget({pool.meta.uid for one in self._measured.values() if one.around is not None
                             for pool in one.around.objects.pools.values()})  # fmt: skip
        return any(found)

    async def _one(self, namespace: str, index: str) -> bool:
        try:
            around = await self._objects.look(namespace, index)
            return await self._of(around).look(around) if around is not None and around.active else False
        except (ClusterError, aiohttp.ClientError, TimeoutError, InvalidField) as error:
            _log.warning("index %s/%s cannot be read: %s", namespace, index, error)
            return False

    def _of(self, around: Around) -> Measured:
        meta = around.objects.index.meta
        key = (meta.namespace, meta.name)
        before = self._measured.get(key)
        if before is None or before.uid != meta.uid:
            self._measured[key] = Measured(meta.namespace, meta.name, meta.uid, self._means)
        return self._measured[key]

    async def _panel(self) -> PanelObject | None:
        try:
            return await self._objects.panel()
        except (ClusterError, aiohttp.ClientError, TimeoutError, InvalidField) as error:
            _log.warning("the Panel cannot be read: %s", error)
            return None


def _final(found: Judgement) -> bool:
    """Return whether measuring on would change nothing."""
    return found.choice is Choice.APPROVE or found.reasons[0].partition(":")[0] not in _MAY_HEAL


def _about(objects: Objects, subject: Subject) -> bool:
    """Return whether these are the objects that a proposal names: another migration has other pools."""
    migration = objects.migration.meta.uid if objects.migration is not None else ""
    return (objects.index.meta.uid, migration) == (subject.uid, subject.migration_uid)
