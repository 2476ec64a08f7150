"""The store worker's HTTP: its report for the operator, probes for the kubelet, figures for Prometheus. Read-only.

Answers come from what the worker saw last, never from the database, so that a slow store cannot make them late.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from reembed.api import render_store_report
from reembed.core.model import StoreReport


def app(report: Callable[[], StoreReport | None], registry: CollectorRegistry) -> Starlette:
    """Return the application; `report` gives what the worker saw last, None before its first pass."""

    async def status(_: Request) -> Response:
        if (seen := report()) is None:
            return JSONResponse({"error": "the store was not looked at yet"}, 503, headers={"Retry-After": "1"})
        return JSONResponse(render_store_report(seen))

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_: Request) -> Response:
        # A worker that reports a problem is at work: its report is what the operator needs.
        return PlainTextResponse("ok\n" if report() is not None else "no pass yet\n", 503 if report() is None else 200)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    routes = {"/status": status, "/health": health, "/ready": ready, "/metrics": metrics}
    return Starlette(routes=[Route(path, endpoint) for path, endpoint in routes.items()])


class Server(uvicorn.Server):
    """uvicorn that ends quietly at the first signal and leaves the exit code to its caller."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal; the base class would raise it again after the last answer."""
        del sig, frame
        self.force_exit = self.should_exit
        self.should_exit = True


def server(application: Starlette, port: int) -> Server:
    return Server(
        uvicorn.Config(
            application, host="0.0.0.0", port=port, access_log=False, log_config=None, timeout_graceful_shutdown=5
        )
    )
