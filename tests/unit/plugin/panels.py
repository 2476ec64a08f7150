"""An API server in memory with a panel whose agents answer, for what `kubectl reembed panel` asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

from reembed.api.panel import Ballot, membership_json, render_ballot, render_decision, render_memberships
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError, Conflict, Object, Snapshot
from reembed.cluster.kinds import Kind
from reembed.core import names
from reembed.core.model import Meta
from reembed.core.quorum.certificates import Certified, Choice
from reembed.core.quorum.membership import Member, Membership, encoded
from reembed.core.quorum.proposals import Proposal
from reembed.plugin.agents import ANNOTATION_KEY, ANNOTATION_ROTATE, PREFIX, ROLES
from tests.panels import NOON, Agents, key

NAMESPACE = "reembed-panel"
NAMES = tuple(ROLES)


def council(generations: Mapping[str, int] | None = None, version: int = 1, faulty: int = 2) -> Agents:
    """Return the eight agents by their real names; another generation of one has another key."""
    of = generations or {}
    keys = {name: key(name, of.get(name, 0)) for name in NAMES}
    members = tuple(Member(name, ROLES[name], keys[name].public) for name in NAMES)
    return Agents(Membership(version, faulty, members), keys)


def lease(name: str, public: bytes | None, beat: datetime | None = NOON) -> Object:
    annotations = {ANNOTATION_KEY: encoded(public)} if public is not None else {}
    time = beat.isoformat().replace("+00:00", "Z") if beat is not None else None
    return {
        "kind": "Lease",
        "metadata": {"namespace": NAMESPACE, "name": f"{PREFIX}{name}", "annotations": annotations},
        "spec": {"renewTime": time},
    }


def panel(members: Membership, chain: tuple[Certified, ...] = (), /, **status: Any) -> Object:
    meta: Object = {
        "namespace": NAMESPACE,
        "name": "panel",
        "uid": "uid-panel",
        "generation": 1,
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    if chain:
        meta["annotations"] = {names.ANNOTATION_FIRST: chain[0].membership.digest}
    told = {"memberships": render_memberships(chain), **status} if chain or status else None
    return {
        "kind": "Panel",
        "metadata": meta,
        "spec": membership_json(members),
        **({"status": told} if told is not None else {}),
    }


def decision(proposal: Proposal, proposer: str = "operator") -> Object:
    made = render_decision(proposal, NAMESPACE, proposer)
    made["metadata"] |= {"uid": "uid-decision", "generation": 1, "resourceVersion": "3"}
    return made


def ballot(agents: Agents, name: str, proposal: Proposal, choice: Choice, reason: str = "") -> Object:
    cast = Ballot(
        name, proposal.slot, proposal.digest, choice, agents.vote(name, proposal, choice), (reason,) if reason else ()
    )
    owner = Meta(NAMESPACE, proposal.name, "uid-decision", 1, "3", deleting=False, finalizers=())
    return render_ballot(cast, NAMESPACE, owner)


class PanelCluster(Cluster):
    """Agents that publish keys, make others when asked, and put a wished membership into office, after some looks."""

    def __init__(self, *objects: Object, looks: int = 0, certifies: bool = True, fault: ClusterError | None = None):
        self.objects = [deepcopy(one) for one in objects]
        self.hidden: list[Object] = []  # Leases that come after `looks`
        self.fault = fault
        self._looks = looks
        self._certifies = certifies

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        self._live()
        found = (one for one in self._of(kind) if one["metadata"]["name"] == name)
        return deepcopy(next(found, None))

    async def snapshot(self, kind: Kind, namespace: str, *, selector: str = "") -> Snapshot:
        self._live()
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        return Snapshot(deepcopy(self._of(kind)), "1")

    async def create(self, kind: Kind, namespace: str, obj: Object, *, manager: str) -> Object:
        if any(one["metadata"]["name"] == obj["metadata"]["name"] for one in self._of(kind)):
            raise Conflict(409, "it exists")
        self.objects.append({"kind": kind.name, **deepcopy(obj)})
        return obj

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Mapping[str, Any],
        *,
        manager: str,
        subresource: str | None = None,
    ) -> Object:
        if kind.name == "Secret":
            assert ANNOTATION_ROTATE in change["metadata"]["annotations"]
            agent = name.removeprefix(PREFIX)
            self.hidden = [lease(agent, key(agent, 1).public)]
            return {}
        (found,) = (one for one in self._of(kind) if one["metadata"]["name"] == name)
        if change["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            raise Conflict(409, "somebody was faster")
        found["spec"] = deepcopy(dict(change["spec"]))
        return found

    def _of(self, kind: Kind) -> list[Object]:
        return [one for one in self.objects if one["kind"] == kind.name]

    def _live(self) -> None:
        """Let time pass by one look."""
        self._looks -= 1
        if self._looks > 0:
            return
        for new in self.hidden:
            name = new["metadata"]["name"]
            self.objects = [*(one for one in self.objects if one["metadata"]["name"] != name), new]
        self.hidden = []
        for one in self._of(kinds.PANEL):
            chain = (one.get("status") or {}).get("memberships") or []
            wished = {"version": len(chain) + 1, **one["spec"]}
            if self._certifies and chain and chain[-1]["members"] != wished["members"]:
                one["status"]["memberships"] = [*chain, wished]


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)
