"""An agent's own look at the API server: the indexes of its panel, their migrations and pools, and who runs for them.

Reads only; what cannot be read is missing in what is returned, and is judged so. No Secret is ever asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from reembed.api.commands import parse_commands
from reembed.api.fields import InvalidField
from reembed.api.panel import parse_panel
from reembed.api.routing import parse_index
from reembed.api.specs import parse_migration, parse_pool, parse_terms
from reembed.api.status import parse_migration_status
from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.core import names
from reembed.core.fingerprint import fingerprint
from reembed.core.migration import Migration, SeenIndex
from reembed.core.model import PanelRef, Routing
from reembed.core.quorum.certificates import SKEW, Certificate, broken_chain, supporters
from reembed.core.quorum.evidence import Objects, PanelObject, PoolObject
from reembed.core.transitions import FINISHED
from reembed.signing import verify

Raw = dict[str, Any]
# Objects of all namespaces in one list.
_EVERYWHERE = replace(kinds.INDEX, namespaced=False)


@dataclass(frozen=True, slots=True)
class Around:
    """The objects of an index, with the addresses of its pods by name: gateways', and each pool's that are ready."""

    objects: Objects
    gateways: Mapping[str, str] = field(default_factory=dict)
    pools: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Return whether a migration is under way, so that something may be proposed."""
        migration = self.objects.migration
        return migration is not None and migration.status.state not in FINISHED


class ObjectReader:
    """Reads for one panel. Certificates are verified once each."""

    def __init__(self, cluster: Cluster, panel: tuple[str, str], namespaces: tuple[str, ...] = ()) -> None:
        self._cluster = cluster
        self._panel = panel
        self._namespaces = namespaces  # none: all
        self._certified: dict[str, bool] = {}

    async def indexes(self) -> list[tuple[str, str]]:
        """Return namespace and name of every index that asks this panel and that a migration holds."""
        if self._namespaces:
            lists = await asyncio.gather(*(self._cluster.list(kinds.INDEX, one) for one in self._namespaces))
            found = [raw for one in lists for raw in one]
        else:
            found = await self._cluster.list(_EVERYWHERE, "")
        return [
            (raw["metadata"]["namespace"], raw["metadata"]["name"])
            for raw in found
            if self._ours(raw) and (raw.get("status") or {}).get("activeMigration")
        ]

    async def look(self, namespace: str, index: str, migration: str | None = None) -> Around | None:
        """Return everything around an index; `migration` is the one to read where none holds it."""
        objects = await self.objects(namespace, index, migration)
        if objects is None:
            return None
        wanted = sorted(_pools(objects))
        label = f"{names.LABEL_COMPONENT}=gateway,{names.LABEL_INDEX}={names.fit(index)}"
        gateways, found = await asyncio.gather(
            self._cluster.list(kinds.POD, namespace, selector=label),
            asyncio.gather(*(self._pool(namespace, name) for name in wanted)),
        )
        pools = {name: one for name, one in zip(wanted, found, strict=True) if one is not None}
        return Around(
            replace(objects, pools={name: pool for name, (pool, _) in pools.items()}),
            _addresses(gateways, ready=False),
            {name: addresses for name, (_, addresses) in pools.items()},
        )

    async def objects(self, namespace: str, index: str, migration: str | None = None) -> Objects | None:
        """Return the index and its migration alone, without pools; None if the index is not there, or not ours."""
        raw = await self._cluster.get(kinds.INDEX, namespace, index)
        if raw is None or not self._ours(raw):
            return None
        at = datetime.now(UTC)
        seen = SeenIndex(*parse_index(raw))
        holder = seen.status.active_migration
        name = migration or (holder.name if holder is not None else None)
        found = await self._cluster.get(kinds.MIGRATION, namespace, name) if name is not None else None
        annotations = raw["metadata"].get("annotations") or {}
        return Objects(
            at=at,
            index=seen,
            migration=_migration(found) if found is not None else None,
            terms=parse_terms(found) if found is not None else "",
            forced=annotations.get(names.ANNOTATION_FORCE_STABLE, "false") != "false",
            certified_by=self._certified_by(seen),
        )

    async def panel(self) -> PanelObject | None:
        raw = await self._cluster.get(kinds.PANEL, *self._panel)
        if raw is None:
            return None
        panel = parse_panel(raw)
        return PanelObject(datetime.now(UTC), panel.meta, panel.wished, panel.chain)

    async def _pool(self, namespace: str, name: str) -> tuple[PoolObject, dict[str, str]] | None:
        raw = await self._cluster.get(kinds.POOL, namespace, name)
        if raw is None:
            return None
        label = f"{names.LABEL_COMPONENT}=embedder,{names.LABEL_POOL}={names.fit(name)}"
        addresses = _addresses(await self._cluster.list(kinds.POD, namespace, selector=label), ready=True)
        try:
            meta, spec = parse_pool(raw)
        except InvalidField:
            return None
        return PoolObject(meta, spec, fingerprint(spec.model), tuple(sorted(addresses))), addresses

    def _ours(self, raw: Raw) -> bool:
        asked = (raw.get("spec") or {}).get("panelRef") or {}
        return (asked.get("namespace"), asked.get("name")) == self._panel

    def _certified_by(self, index: SeenIndex) -> datetime | None:
        routing, panel = index.status.routing, index.spec.panel
        certificate = routing.certificate
        if certificate is None or panel is None or not _of(certificate, routing, index.meta.uid):
            return None
        if certificate.digest not in self._certified:
            # Of each index only the newest is asked for again.
            self._certified = dict(list(self._certified.items())[-64:]) | {
                certificate.digest: _holds(certificate, panel)
            }
        # Gateways take nothing over after that.
        return certificate.proposal.expires + SKEW if self._certified[certificate.digest] else None


def _of(certificate: Certificate, routing: Routing, uid: str) -> bool:
    proposal = certificate.proposal
    said = (proposal.subject.uid, proposal.epoch, proposal.after.weight)
    return said == (uid, routing.epoch, routing.weight)


def _holds(certificate: Certificate, panel: PanelRef) -> bool:
    """Return whether a quorum of the panel signed it, however long ago."""
    if broken_chain(certificate.chain, panel.digest, verify) is not None:
        return False
    membership = certificate.chain[-1].membership
    return len(supporters(certificate.votes, certificate.proposal, membership, verify)) >= membership.quorum


def _migration(raw: Raw) -> Migration | None:
    """Return a migration; None of one that a newer version wrote, which this one must not judge."""
    try:
        meta, spec = parse_migration(raw)
        return Migration(meta, spec, parse_migration_status(raw), parse_commands(raw), parse_terms(raw))
    except InvalidField:
        return None


def _pools(objects: Objects) -> set[str]:
    routing = objects.index.status.routing
    arms = [routing.serving, routing.candidate]
    if objects.migration is not None:
        arms += [objects.migration.status.serving, objects.migration.status.candidate]
    target = {objects.migration.spec.pool} if objects.migration is not None else set()
    return {arm.pool for arm in arms if arm is not None} | target


def _addresses(pods: Iterable[Raw], *, ready: bool) -> dict[str, str]:
    """Return name -> address of the pods that run; of those that are to be ready, those that say so and stay."""
    found = {}
    for pod in pods:
        status = pod.get("status") or {}
        if status.get("phase") != "Running" or not status.get("podIP"):
            continue
        if ready and (pod["metadata"].get("deletionTimestamp") or not _ready(status)):
            continue
        found[pod["metadata"]["name"]] = status["podIP"]
    return found


def _ready(status: Raw) -> bool:
    conditions = status.get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
