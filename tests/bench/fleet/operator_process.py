"""The operator as its image runs it, but for two ports: `python -m tests.bench.fleet.operator_process`.

In a cluster each pod has an address of its own and the same port; here all share the loopback with this process.
BENCH_PODS and BENCH_PORT say where the pods answer and where this one does; BENCH_TRACE names a file for the times of
each pass, if that is wanted. BENCH_ACCOUNT is where the pod's account is mounted.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from aiohttp import web

from reembed.cluster import access, client
from reembed.controller import operator
from reembed.controller.scrape import HttpPods
from reembed.controller.web import Metrics, Report, application


@asynccontextmanager
async def served(report: Report, metrics: Metrics) -> AsyncIterator[None]:
    runner = web.AppRunner(application(report, metrics), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["BENCH_PORT"])).start()
    try:
        yield
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    operator.HttpPods = partial(HttpPods, port=int(os.environ["BENCH_PODS"]))  # type: ignore[misc, assignment]
    operator.served = served
    client.of_account = partial(access.of_account, Path(os.environ["BENCH_ACCOUNT"]))
    # Which the image does not have, and kopf would load.
    sys.modules["kubernetes"] = None  # type: ignore[assignment]
    if "BENCH_TRACE" in os.environ:
        from tests.bench.fleet.traced import trace

        trace(Path(os.environ["BENCH_TRACE"]))
    runpy.run_module("reembed.controller", run_name="__main__", alter_sys=True)
