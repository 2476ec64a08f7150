"""Runs in a pod: a receiver of hooks as docs/hooks.md tells its readers to write one, which keeps a record.

`signature` beside it is the very code of that page. A signed call is turned away the first time, as by a server in
trouble, so that every run is seen to be repeated with its key; then it is answered after a pause in which a weight that
rose too early would be seen. GET /record returns every call.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from aiohttp import web
from signature import is_from_reembed

_PAUSE_SECONDS = 2.0


class Receiver:
    """Everything that came, in its order."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._record: list[dict[str, Any]] = []

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/reembed", self._signed)
        app.router.add_post("/jobs", self._unsigned)
        app.router.add_get("/record", self._told)
        return app

    async def _signed(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not is_from_reembed(dict(request.headers), body, self._secret):
            return self._noted(request, body, 401, "the signature is not ours")
        key = request.headers["Idempotency-Key"]
        if all(call["key"] != key for call in self._record):
            return self._noted(request, body, 503, "not yet")
        await asyncio.sleep(_PAUSE_SECONDS)
        return self._noted(request, body, 200, f"noted {json.loads(body)['hook']}")

    async def _unsigned(self, request: web.Request) -> web.Response:
        return self._noted(request, await request.read(), 200, "noted a Job")

    def _noted(self, request: web.Request, body: bytes, status: int, text: str) -> web.Response:
        key = request.headers.get("Idempotency-Key", "")
        call = {"answered": time.time(), "status": status, "key": key, "body": json.loads(body)}
        self._record.append(call)
        return web.Response(status=status, text=f"{text}\n")

    async def _told(self, _: web.Request) -> web.Response:
        return web.json_response(self._record)


if __name__ == "__main__":
    web.run_app(Receiver(os.environ["SECRET"].encode()).application(), port=8080, print=None)
