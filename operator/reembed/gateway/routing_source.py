"""The routing as the API server holds it: reads and watches one EmbeddingIndex for `follow`.

The only module of the gateway that knows Kubernetes. It turns the object into a `Reading` and every way of not getting
one into a `SourceError`; what follows from either is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from reembed.api import InvalidField, parse_index
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError
from reembed.core import names
from reembed.gateway.follow import SourceError
from reembed.gateway.lease import Reading


class IndexSource:
    """One index in one cluster."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name

    async def read(self) -> Reading | None:
        """Return what the index says now, None if there is none; raise SourceError without an answer."""
        try:
            found = await self._cluster.get(kinds.INDEX, self._namespace, self._name)
        except ClusterError as error:
            raise SourceError(str(error)) from error
        return None if found is None else _reading(found)

    async def changes(self) -> AsyncIterator[Reading | None]:
        """Yield what is there and then each change, until the server ends the watch; raise SourceError if it breaks."""
        try:
            async for event, found in self._cluster.watch(kinds.INDEX, self._namespace, name=self._name):
                yield None if event == "DELETED" else _reading(found)
        except (ClusterError, OSError, TimeoutError, ValueError) as error:
            raise SourceError(str(error) or type(error).__name__) from error


def _reading(found: Mapping[str, Any]) -> Reading:
    try:
        meta, spec, status = parse_index(found)
    except InvalidField as error:
        raise SourceError(f"the index can't be understood: {error}") from error
    return Reading(meta.uid, status.routing, _is_forced(found["metadata"].get("annotations") or {}), spec.panel)


def _is_forced(annotations: Mapping[str, str]) -> bool:
    return annotations.get(names.ANNOTATION_FORCE_STABLE, "false") != "false"
