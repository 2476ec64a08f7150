"""The embedder's HTTP API: OpenAI's /v1/embeddings with an input type and a priority, and what Kubernetes asks for.

Statuses are used apart: 413 a text is too long, 422 the request is malformed, 429 too much waits, 503 the model is not
there (yet, or again); the last two say when to come back.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reembed.embedder.child import Done
from reembed.embedder.metrics import Metrics
from reembed.embedder.process import Engine, EngineBusy, EngineFailed, EngineUnavailable, TextTooLong
from reembed.embedder.requests import Asked, Malformed, parse, parse_texts
from reembed.embedder.settings import Settings

PRIORITY = "x-reembed-priority"
_MOST_BYTES = 16 << 20
_RETRY = {"Retry-After": "1"}
_PROBE = "the quick brown fox jumps over the lazy dog"
_STATUSES: dict[type[Exception], tuple[int, str]] = {
    Malformed: (422, "invalid_request"),
    TextTooLong: (413, "text_too_long"),
    EngineBusy: (429, "busy"),
    EngineUnavailable: (503, "unavailable"),
    EngineFailed: (503, "unavailable"),
}


class Embedder:
    """The routes of one model."""

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics) -> None:
        self._settings = settings
        self._engine = engine
        self._metrics = metrics
        self._proved = False

    def application(self) -> Starlette:
        """Return the ASGI application; its life is the engine's."""

        @asynccontextmanager
        async def life(_: Starlette) -> AsyncIterator[None]:
            self._engine.start()
            yield
            await self._engine.close()

        routes = [
            Route("/v1/embeddings", self.embeddings, methods=["POST"]),
            Route("/tokenize", self.tokenize, methods=["POST"]),
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/metrics", self.metrics),
        ]
        return Starlette(routes=routes, lifespan=life)

    async def embeddings(self, request: Request) -> Response:
        began = perf_counter()
        response = await self._answered(request, self._embed)
        self._metrics.requests.labels(str(response.status_code)).inc()
        self._metrics.seconds.observe(perf_counter() - began)
        return response

    async def tokenize(self, request: Request) -> Response:
        return await self._answered(request, self._tokenize)

    async def health(self, _: Request) -> Response:
        """Say that the process lives; a model that cannot start ends it instead (see `embedder.__main__`)."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Say whether texts are embedded: a probe must have been, to a vector of the right length."""
        if not self._engine.ready:
            self._proved = False
            return _error(503, "not_ready", "the model is being loaded", _RETRY)
        if not self._proved:
            try:
                done = await self._engine.embed([_PROBE], background=False)
            except (EngineBusy, EngineUnavailable, EngineFailed) as error:
                return _error(503, "not_ready", str(error), _RETRY)
            self._proved = len(_floats(done.vectors[0])) == self._settings.model.dimensions
        return JSONResponse({"status": "ok", "fingerprint": self._settings.fingerprint})

    async def metrics(self, _: Request) -> Response:
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4")

    async def _answered(self, request: Request, answer: Any) -> Response:
        """Run a handler and turn what it raises into the status that fits."""
        try:
            body = json.loads(await _body(request))
            response: Response = await _until_gone(request, answer(request, body))
        except ClientDisconnect:
            return Response(status_code=499)
        except (ValueError, Malformed, TextTooLong, EngineBusy, EngineUnavailable, EngineFailed) as error:
            return _refused(error)
        return response

    async def _embed(self, request: Request, body: Any) -> Response:
        model = self._settings.model
        asked = parse(body, model, self._settings.default_input_type)
        background = request.headers.get(PRIORITY, "").lower() == "background"
        done = await self._engine.embed(asked.prefixed(model), background=background)
        priority = "background" if background else "live"
        self._metrics.texts.labels(asked.input_type.value.lower(), priority).inc(len(asked.texts))
        self._metrics.tokens.inc(sum(done.tokens))
        self._metrics.truncated.inc(len(done.cut))
        return JSONResponse(self._rendered(asked, done))

    async def _tokenize(self, _: Request, body: Any) -> Response:
        texts = parse_texts(body.get("input") if isinstance(body, dict) else None)
        done = await self._engine.embed(texts, background=False, tokens_only=True)
        return JSONResponse({"tokens": list(done.tokens)})

    def _rendered(self, asked: Asked, done: Done) -> dict[str, Any]:
        tokens = sum(done.tokens)
        written = [base64.b64encode(one).decode() if asked.base64 else _floats(one) for one in done.vectors]
        return {
            "object": "list",
            "model": self._settings.fingerprint,
            "fingerprint": self._settings.fingerprint,
            "data": [
                {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(written)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "truncated": list(done.cut),
        }


async def _body(request: Request) -> bytes:
    data = bytearray()
    async for block in request.stream():
        data += block
        if len(data) > _MOST_BYTES:
            raise Malformed(f"the body is larger than {_MOST_BYTES} bytes; send several requests")
    return bytes(data)


async def _until_gone(request: Request, answer: Any) -> Any:
    """Await `answer`, but cancel it when the caller goes away: what nobody waits for is not computed."""
    work = asyncio.ensure_future(answer)
    watch = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        work.cancel()
        watch.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _floats(vector: bytes) -> list[float]:
    values = list(struct.unpack(f"<{len(vector) // 4}f", vector))
    return values if all(math.isfinite(value) for value in values) else []


def _refused(error: Exception) -> Response:
    status, kind = _STATUSES.get(type(error), (422, "invalid_request"))
    message = str(error) if type(error) in _STATUSES else f"the body is not JSON ({error})"
    index = error.index if isinstance(error, TextTooLong) else None
    return _error(status, kind, message, _RETRY if status in {429, 503} else None, index)


def _error(
    status: int, kind: str, message: str, headers: dict[str, str] | None = None, index: int | None = None
) -> Response:
    where = {} if index is None else {"index": index}
    return JSONResponse({"error": {"type": kind, "message": message, **where}, **where}, status, headers)


__all__: Sequence[str] = ["Embedder"]
