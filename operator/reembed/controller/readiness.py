"""Which namespaces the operator has seen whole, and what it lacks in the others, with what people can do about it.

Told by `listing`; read by `/ready` and by Prometheus. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reembed.cluster.client import ClusterError
from reembed.cluster.kinds import Kind


@dataclass(frozen=True, slots=True)
class Lack:
    """A kind that could not be listed at the last try."""

    kind: str
    error: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether this replica leads, and who does."""

    leads: bool = True
    leader: str = ""  # empty if nobody does, or where there is one replica alone
    problem: str = ""  # why the Lease that decides it could not be read or written

    def report(self) -> dict[str, Any]:
        if not self.problem:
            return {"leader": self.leader}
        remedy = "without it this replica cannot lead: the operator's account needs get, create and patch on the Lease"
        return {"leader": self.leader, "error": self.problem, "remedy": remedy}


# A replica that nobody stands against.
ALONE = Standing()


class Readiness:
    """What is not listed yet, or was refused at the last try, by namespace."""

    def __init__(self, namespaces: Sequence[str], kinds: Sequence[Kind]) -> None:
        unseen = {kind: Lack(kind.plural, "not listed yet", "wait: this takes seconds") for kind in kinds}
        self._lacks = {namespace: dict(unseen) for namespace in namespaces}

    @property
    def namespaces(self) -> tuple[str, ...]:
        return tuple(self._lacks)

    def listed(self, kind: Kind, namespace: str) -> None:
        self._lacks[namespace].pop(kind, None)

    def refused(self, kind: Kind, namespace: str, error: ClusterError) -> Lack:
        """Note that a kind could not be listed, and return what to say about it."""
        lack = Lack(kind.plural, str(error), remedy(kind, namespace, error.status))
        others = {other: one for other, one in self._lacks[namespace].items() if other != kind}
        self._lacks[namespace] = {kind: lack, **others}
        return lack

    def ready(self, namespace: str) -> bool:
        return not self._lacks[namespace]

    def report(self, standing: Standing = ALONE) -> tuple[bool, dict[str, Any]]:
        """Return whether this replica leads or could do so at once, and what `/ready` answers."""
        namespaces = [_entry(namespace, tuple(lacks.values())) for namespace, lacks in self._lacks.items()]
        ready = all(one["ready"] for one in namespaces) and not standing.problem
        status = "waiting" if not ready else "ready" if standing.leads else "standby"
        return ready, {"status": status, **standing.report(), "namespaces": namespaces}


def remedy(kind: Kind, namespace: str, status: int) -> str:
    """Return what to do when the API server answered `status` to the list of a kind."""
    if status in {401, 403}:
        return (
            f"the operator's account may not list {kind.plural} in namespace '{namespace}': create the namespace if it "
            f"is missing and run `helm upgrade` again, which makes the account's Role in it, or take '{namespace}' out "
            "of the chart's watchNamespaces"
        )
    if status == 404:
        return (
            f"the API server does not know {kind.plural}: install the chart's CRDs (crds.enabled), or wait if they "
            "were made a moment ago"
        )
    return "it is tried again until the API server answers; if that lasts, the API server's own log says why"


def _entry(namespace: str, lacks: Sequence[Lack]) -> dict[str, Any]:
    if not lacks:
        return {"namespace": namespace, "ready": True}
    # The last refusal comes before what was not tried yet.
    return {"namespace": namespace, "ready": False, **asdict(lacks[0])}
