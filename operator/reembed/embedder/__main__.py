"""Starts an embedder: `python -m reembed.embedder`. Fetches the model, then serves it until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import uvicorn

from reembed import cgroup
from reembed.embedder.app import Embedder
from reembed.embedder.fetch import fetch
from reembed.embedder.metrics import Metrics
from reembed.embedder.process import Engine
from reembed.embedder.refusals import ArchitectureUnsupported, Refusal
from reembed.embedder.settings import Settings, from_environment
from reembed.logs import to_stdout

_LOGGER = logging.getLogger("reembed.embedder")


async def _serve(settings: Settings) -> None:
    path = await fetch(settings.model, settings.cache)
    contexts = max(int(cgroup.cpus()), 1)
    _LOGGER.info("serving %s with %d contexts, and one for live queries alone", settings.fingerprint, contexts)
    engine = Engine(path, settings.model, contexts)
    metrics = Metrics(engine, path.stat().st_size)
    application = Embedder(settings, engine, metrics).application()
    config = uvicorn.Config(
        application, host="0.0.0.0", port=settings.port, log_config=None, access_log=False, timeout_graceful_shutdown=30
    )
    server = uvicorn.Server(config)

    def stop(_: object) -> None:
        server.should_exit = True

    # An engine that cannot even start ends the process: Kubernetes then shows why.
    engine.failed.add_done_callback(stop)
    await server.serve()
    if engine.failed.done():
        raise ArchitectureUnsupported(engine.failed.result())


def main() -> int:
    to_stdout()
    settings = from_environment(os.environ)
    try:
        asyncio.run(_serve(settings))
    except Refusal as refusal:
        _LOGGER.error("%s: %s", refusal.reason, refusal)
        refusal.leave(settings.termination_log)
        return refusal.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
