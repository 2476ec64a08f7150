"""The one place where a gateway's routing is held: a single immutable value that each request takes once."""

from __future__ import annotations

import asyncio
import logging

from reembed.core.model import RefusedRaise, Routing
from reembed.gateway.lease import UNWATCHED, Leader, Lease, effective

_log = logging.getLogger(__name__)


class RoutingInForce:
    """The routing, as it was last decided; `accepting` puts it here, and requests, probes and reports look at it."""

    def __init__(self) -> None:
        self.lease = Lease()
        self._leader = UNWATCHED

    @property
    def known(self) -> bool:
        """Whether it is known what answers."""
        return self.lease.known

    @property
    def refused(self) -> RefusedRaise | None:
        """What the index says and this gateway does not follow."""
        return self.lease.acceptance.refused

    def snapshot(self) -> Routing:
        """Return what a request that starts now has to follow to its end."""
        return effective(self.lease, asyncio.get_running_loop().time(), self._leader)

    def lead(self, leader: Leader) -> None:
        """Give a candidate traffic only while `leader` is recent."""
        self._leader = leader

    def hold(self, lease: Lease) -> None:
        before, self.lease = self.lease, lease
        if lease.routing != before.routing or lease.force_stable != before.force_stable:
            _log.info(
                "routing: epoch %d, serving %s, candidate %s at %d %%%s",
                lease.routing.epoch,
                lease.routing.serving and lease.routing.serving.pool,
                lease.routing.candidate and lease.routing.candidate.pool,
                lease.routing.weight,
                ", held at 0 % by annotation" if lease.force_stable else "",
            )
