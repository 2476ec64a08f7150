"""The gateway's process without a cluster: `python -m tests.bench.gateway.process PORT EMBEDDER_URL DSN`.

All of it is what `python -m reembed.gateway` runs, but for two ends: the routing is at hand, where a pod reads and
watches it from the API server, and the embedder's address is given, where a pod finds it by its Service's name.
With PROFILE=FILE in the environment, cProfile's figures are written there at the end.
"""

from __future__ import annotations

import cProfile
import gc
import os
import sys

import uvloop

from reembed.client import EmbedderClient
from reembed.core.model import Arm, Routing
from reembed.gateway.__main__ import listen
from reembed.gateway.app import Gateway, Settings
from reembed.logs import to_stdout
from reembed.stores.pgvector.search import Searcher
from tests.bench.gateway.arm import ARM
from tests.fixtures.routing import FakeSource


async def serve(port: int, embedder: str, dsn: str) -> None:
    settings = Settings("bench", "docs", "gateway")

    def connect(arm: Arm) -> EmbedderClient:
        return EmbedderClient(embedder, fingerprint=arm.fingerprint, timeout=settings.deadlines.total)

    async with Searcher(dsn, settings.connections) as store:
        await listen(Gateway(settings, FakeSource(Routing(epoch=1, serving=ARM)), connect, store), port)


def main() -> None:
    to_stdout()
    port, embedder, dsn = sys.argv[1:]
    profile = cProfile.Profile()
    if file := os.environ.get("PROFILE"):
        profile.enable()
    gc.freeze()
    uvloop.run(serve(int(port), embedder, dsn))
    if file:
        profile.dump_stats(file)


if __name__ == "__main__":
    main()
