"""How large the cluster's nodes are, listed when pods of ours find no room and known for five minutes.

Nodes are nobody's namespace: the chart gives the right to list them by a ClusterRole that can be left out
(`nodeCapacity.enabled`). Without it nothing is known, and what never fits is waited for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from reembed.api import InvalidValue, parse_exact_quantity
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError
from reembed.controller.cache import Object
from reembed.core.fitting import Node
from reembed.core.model import Variant

_LASTS = timedelta(minutes=5)

_LOGGER = logging.getLogger("reembed.controller")


class Nodes:
    """The nodes, as last listed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._listed: datetime | None = None
        self.known: tuple[Node, ...] = ()

    async def look(self, now: datetime) -> None:
        """List the nodes unless that was done lately."""
        if self._listed is not None and timedelta(0) <= now - self._listed < _LASTS:
            return
        self._listed = now
        try:
            found = await self._cluster.snapshot(kinds.NODE, "")
        except ClusterError as error:
            self.known = ()
            _LOGGER.info("cannot list nodes: %s; what fits on none of them is waited for", error)
        else:
            self.known = tuple(_node(one) for one in found.objects)


def needs(variant: Variant) -> dict[str, Decimal]:
    """Return what a pod of a variant asks for: a limit without a request is one."""
    return _amounts({**variant.limits, **variant.requests})


def _node(raw: Object) -> Node:
    labels: Mapping[str, str] = raw["metadata"].get("labels") or {}
    return Node(labels, _amounts((raw.get("status") or {}).get("allocatable") or {}))


def _amounts(texts: Mapping[str, str]) -> dict[str, Decimal]:
    found = {}
    for name, text in texts.items():
        try:
            found[name] = parse_exact_quantity(str(text))
        except InvalidValue:
            continue  # a form that nobody writes by hand, such as 1e3: not judged
    return found
