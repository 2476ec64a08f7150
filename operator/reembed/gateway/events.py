"""Kubernetes events about the index that a gateway serves; the only thing that it writes to the API server."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.core.model import RefusedRaise

REASON = "CertificateRefused"
_MANAGER = "reembed-gateway"
# The API server takes 1024 characters.
_LONGEST_MESSAGE = 1000


class IndexEvents:
    """Events about one index, by one pod."""

    def __init__(self, cluster: Cluster, namespace: str, index: str, pod: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._index = index
        self._pod = pod

    async def refused(self, uid: str, refused: RefusedRaise) -> None:
        """Post that a raise is not followed."""
        now = datetime.now(UTC)
        stamp = now.isoformat(timespec="seconds").replace("+00:00", "Z")
        suffix = hashlib.sha256(f"{uid}/{self._pod}/{refused.epoch}/{refused.reason}/{now}".encode()).hexdigest()[:16]
        event = {
            "metadata": {"name": f"{self._index[:200]}.{suffix}", "namespace": self._namespace},
            "involvedObject": {
                "apiVersion": kinds.INDEX.api_version,
                "kind": kinds.INDEX.name,
                "namespace": self._namespace,
                "name": self._index,
                "uid": uid,
            },
            "type": "Warning",
            "reason": REASON,
            "message": (
                f"gateway {self._pod} does not follow epoch {refused.epoch} of the routing ({refused.reason}): "
                f"{refused.message}; queries go where they went"
            )[:_LONGEST_MESSAGE],
            "source": {"component": _MANAGER},
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
        await self._cluster.create(kinds.EVENT, self._namespace, event, manager=_MANAGER)
