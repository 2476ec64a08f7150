"""`python -m reembed.gateway`: serves one index until SIGTERM, then drains and exits 0.

Kubernetes takes a pod out of its Service only some time after it sent SIGTERM, and callers with kept-alive connections
do not notice. So the process first stops being ready and goes on answering, closing each connection after its answer;
only then does it stop to accept.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Mapping
from types import FrameType

import uvicorn
import uvloop

from reembed.client import EmbedderClient
from reembed.cluster.client import Cluster
from reembed.cluster.lease import Lease
from reembed.core import names
from reembed.core.model import Arm
from reembed.gateway.accepting import Judging
from reembed.gateway.app import Gateway, Settings
from reembed.gateway.events import IndexEvents
from reembed.gateway.routing_source import IndexSource
from reembed.logs import to_stdout
from reembed.stores import opening

# How long a process that was told to end still answers. Endpoints and proxies learn of it within about this time.
_DRAIN_SECONDS = 5.0
# Longer than callers keep an idle connection: else a query may be sent on one that is being closed.
_KEEP_ALIVE_SECONDS = 75
# What is under way after that may take as long as a request may.
_FINISH_SECONDS = 12

_log = logging.getLogger("reembed.gateway")


class Server(uvicorn.Server):
    """uvicorn that drains before it stops."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._draining = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal ends at once."""
        if self.should_exit or self._draining:
            self.should_exit = self.force_exit = True
            return
        self._draining = True
        self._gateway.drain()
        asyncio.get_running_loop().call_later(_DRAIN_SECONDS, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


async def serve(environment: Mapping[str, str]) -> None:
    """Serve the index that the environment names."""
    namespace, index = environment["REEMBED_NAMESPACE"], environment["REEMBED_INDEX"]
    settings = Settings(namespace, index, environment.get("REEMBED_POD", ""))

    def connect(arm: Arm) -> EmbedderClient:
        url = names.embedder_url(arm.pool, namespace)
        return EmbedderClient(url, fingerprint=arm.fingerprint, timeout=settings.deadlines.total)

    opened = opening.searching(environment["REEMBED_DSN"], names.index_key(namespace, index), settings.connections)
    async with Cluster.connect() as cluster, opened as store:
        leader = _leader_lease(cluster, environment.get("REEMBED_LEADER_LEASE", ""))
        judging = Judging(announcer=IndexEvents(cluster, namespace, index, settings.pod))
        gateway = Gateway(settings, IndexSource(cluster, namespace, index), connect, store, leader, judging)
        await listen(gateway, int(environment.get("REEMBED_PORT", names.PORT)))
    _log.info("drained; the process ends")


async def listen(gateway: Gateway, port: int) -> None:
    """Answer on `port` until SIGTERM; also what `make bench-gateway` measures."""
    config = uvicorn.Config(
        gateway.app(),
        host="0.0.0.0",
        port=port,
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_FINISH_SECONDS,
    )
    await Server(config, gateway).serve()


def _leader_lease(cluster: Cluster, reference: str) -> Lease | None:
    """Return the operator's Lease, None where `reference` (namespace/name) is empty: nobody looks at one then."""
    namespace, _, name = reference.partition("/")
    return Lease(cluster, namespace, name) if reference else None


def main() -> int:
    """Run until told to end; return the exit code."""
    to_stdout()
    needed = ("REEMBED_NAMESPACE", "REEMBED_INDEX", "REEMBED_DSN")
    if missing := [name for name in needed if not os.environ.get(name)]:
        _log.error("%s not set: the operator sets them on the gateway's Deployment", ", ".join(missing))
        return 2
    # What is loaded stays: looking through it for garbage again and again took 6 % of a query's CPU time.
    gc.freeze()
    uvloop.run(serve(os.environ))
    return 0


if __name__ == "__main__":
    sys.exit(main())
