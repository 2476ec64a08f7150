"""An API server in memory that answers from a script, for what looks at a migration more than once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError, Snapshot
from reembed.cluster.kinds import Kind
from tests.unit.plugin.stories import NAMESPACE, Object

Answer = Object | ClusterError | None


class ScriptedCluster(Cluster):
    """Each look at the migration gives the next answer, and the last one for ever; everything else is in `objects`."""

    def __init__(self, *answers: Answer, others: Sequence[Object] = (), **faults: ClusterError) -> None:
        self._answers = list(answers)
        self.others = others
        self._faults = faults  # by plural, for lists and gets
        self.patches: list[Mapping[str, Any]] = []

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        if kind != kinds.MIGRATION:
            if kind.plural in self._faults:
                raise self._faults[kind.plural]
            return next((one for one in self._of(kind) if one["metadata"]["name"] == name), None)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, ClusterError):
            raise answer
        return deepcopy(answer)

    async def snapshot(self, kind: Kind, namespace: str, *, selector: str = "") -> Snapshot:
        everywhere = kind.plural if kind.namespaced else f"all_{kind.plural}"
        if everywhere in self._faults:
            raise self._faults[everywhere]
        found = self._of(kind)
        return Snapshot([one for one in found if not namespace or one["metadata"].get("namespace") == namespace], "1")

    async def patch(self, kind: Kind, namespace: str, name: str, change: Mapping[str, Any], *, manager: str) -> Object:
        if "patch" in self._faults:
            raise self._faults["patch"]
        self.patches.append(change)
        return {}

    def _of(self, kind: Kind) -> list[Object]:
        return [one for one in self.others if one["kind"] == kind.name]


def namespace(name: str = NAMESPACE) -> Object:
    return {"kind": "Namespace", "metadata": {"name": name}}


def pool(name: str, ready: int, desired: int) -> Object:
    meta = {"namespace": NAMESPACE, "name": name}
    return {
        "kind": "EmbedderPool",
        "metadata": meta,
        "spec": {},
        "status": {"readyReplicas": ready, "desiredReplicas": desired},
    }


def index(name: str = "docs") -> Object:
    meta = {"namespace": NAMESPACE, "name": name}
    status = {"documents": 8674, "gateway": {"replicas": 2, "readyReplicas": 2}}
    return {"kind": "EmbeddingIndex", "metadata": meta, "spec": {}, "status": status}
