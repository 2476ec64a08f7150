"""Entry point of the demo's model server: the GGUF files that were converted when the image was built, over HTTP.

Embedder pods fetch `http://models:8080/<file>`, with ranges, as from any object store. Nothing here is secret and
nothing is written. The rollback demo stops this server to make a lost candidate pod unable to come back.
"""

from __future__ import annotations

import os
from pathlib import Path

from aiohttp import web


def application(folder: Path) -> web.Application:
    app = web.Application()
    app.router.add_get("/health", _health)
    app.router.add_static("/", folder)  # aiohttp answers ranges by itself
    return app


async def _health(_: web.Request) -> web.Response:
    return web.Response(text="ok")


if __name__ == "__main__":
    web.run_app(application(Path(os.environ["MODELS"])), port=int(os.environ.get("PORT", "8080")), access_log=None)
