"""The agent's own heartbeat, and what it sees of the others': who lives, and whose work is whose.

The heartbeat is a Lease of the agent's own, renewed every ten seconds and read by all others; its annotation says by
which public key the agent wants to be known. All rules are in `core.quorum.watch`; what a role does asks `mine` before
each round of its work, as it may have been another's a moment ago.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from reembed.cluster.client import Cluster, ClusterError, Object
from reembed.cluster.kinds import LEASE
from reembed.core import names
from reembed.core.quorum import watch
from reembed.core.quorum.membership import Member, Role, decoded, encoded
from reembed.core.quorum.watch import Watch
from reembed.panel.keys import ANNOTATION_KEY, MANAGER, Kept
from reembed.panel.metrics import Metrics
from reembed.panel.office import Office
from reembed.panel.settings import Settings, account

LABEL_PANEL = f"{names.GROUP}/panel"
# Requests that take longer are given up: three of them fit into the time after which an agent counts as dead.
_ASK_SECONDS = 8.0
_LOOK_SECONDS = 5.0
_AGAIN = 2.0

_LOGGER = logging.getLogger("reembed.panel")


class Heartbeats:
    """One agent's pulse, and its sight of the others'; `clock` gives wall time, which only people read."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        kept: Callable[[], Kept | None],
        office: Office,
        metrics: Metrics,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self.kept = kept
        self._office = office
        self._metrics = metrics
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.watch = Watch()
        self.published: dict[str, bytes] = {}  # by agent: the public key on its Lease
        self.beaten: float | None = None  # when the last heartbeat was answered, by the loop's clock

    @property
    def live(self) -> tuple[str, ...]:
        return watch.live(self.watch)

    def mine(self, role: Role) -> bool:
        """Return whether the work of a role is this agent's now."""
        return self.place(role) == 0

    def place(self, role: Role) -> int | None:
        """Return how many have the work of a role before this agent; None while it is no living member."""
        members = self._office.members
        if members is None:
            return None
        return watch.place(role, self._settings.agent, members.members, self.live)

    async def beat_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            again = watch.BEAT
            try:
                async with asyncio.timeout(_ASK_SECONDS):
                    await self._beat()
                self.beaten = asked
            except (ClusterError, TimeoutError) as error:
                again = _AGAIN
                self._metrics.beat_failures.inc()
                _LOGGER.warning("no heartbeat: %s; tried again in %g s", str(error) or "no answer", again)
            await asyncio.sleep(max(asked + again - loop.time(), 0.0))

    async def look_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self.look()
            except (ClusterError, TimeoutError) as error:
                _LOGGER.warning("the heartbeats of the panel were not seen: %s", str(error) or "no answer")
            await asyncio.sleep(max(asked + watch.LOOK - loop.time(), 0.0))

    async def look(self) -> None:
        """Look at all Leases once.

        Raises:
            ClusterError: there was no answer; what is known stays as it is.

        """
        selector = f"{LABEL_PANEL}={self._settings.panel}"
        found = await self._cluster.list(LEASE, self._settings.namespace, selector=selector)
        leases = {one["metadata"]["name"]: one for one in found}
        watched = self._watched()
        self.published = {name: key for name in watched if (key := _published(leases.get(account(name)))) is not None}
        said = {name: _said(leases[account(name)]) for name in watched if account(name) in leases}
        before = self.watch
        self.watch = watch.looked(before, said, watched, asyncio.get_running_loop().time())
        self._tell(before)

    def _watched(self) -> frozenset[str]:
        """Return whose heartbeat matters: of those in office, and of those who are to be."""
        known = (self._office.active, self._office.wished)
        return frozenset(member.name for one in known if one is not None for member in one.members)

    def _tell(self, before: Watch) -> None:
        members: tuple[Member, ...] = self._office.members.members if self._office.members is not None else ()
        gone, was = set(watch.dead(self.watch)), set(watch.dead(before))
        for name in sorted(gone - was):
            _LOGGER.warning("agent %s is dead: its heartbeat is missing for %g s; others do its work", name, watch.DEAD)
        for name, seconds in watch.recovered(before, self.watch).items():
            self._metrics.recovery.observe(seconds)
            _LOGGER.info("agent %s is back, %.0f s after its last heartbeat", name, seconds)
        self._metrics.reachable.set(sum(one.name not in gone for one in members))
        self._metrics.alive.clear()  # of who is a member no more
        for one in members:
            self._metrics.alive.labels(one.name).set(one.name not in gone)
        for role in Role:
            self._metrics.duties.labels(role.value).set(self.mine(role))
        if (active := self._office.active) is not None:
            self._metrics.members.set(len(active.members))
            self._metrics.quorum.set(active.quorum)
            self._metrics.version.set(active.version)

    async def _beat(self) -> None:
        kept = self.kept()
        stamp = self.clock().isoformat(timespec="microseconds").replace("+00:00", "Z")
        body: dict[str, Any] = {
            "metadata": {
                "labels": {names.LABEL_PART_OF: names.PART_OF, LABEL_PANEL: self._settings.panel},
                "annotations": {ANNOTATION_KEY: encoded(kept.published)} if kept is not None else {},
            },
            "spec": {
                "holderIdentity": self._settings.pod or self._settings.agent,
                "leaseDurationSeconds": int(watch.DEAD),
                "renewTime": stamp,
            },
        }
        here, name = self._settings.namespace, self._settings.account
        try:
            await self._cluster.patch(LEASE, here, name, body, manager=MANAGER)
        except ClusterError as error:
            if error.status != 404:
                raise
            made = body | {"metadata": body["metadata"] | {"namespace": here, "name": name}}
            await self._cluster.create(LEASE, here, made, manager=MANAGER)


def _said(lease: Object) -> str:
    """Return what changes with each heartbeat, whatever the clock of its agent says."""
    spec: Mapping[str, Any] = lease.get("spec") or {}
    return f"{spec.get('holderIdentity', '')} {spec.get('renewTime', '')}"


def _published(lease: Object | None) -> bytes | None:
    annotations = ((lease or {}).get("metadata") or {}).get("annotations") or {}
    return decoded(annotations.get(ANNOTATION_KEY, ""))
