"""The embedder's HTTP API: OpenAI's /v1/embeddings with an input type and a priority, and what Kubernetes asks for.

Statuses are used apart: 408 a body came too slowly, 413 a text is too long, 422 the request is malformed, 429 too much
waits, 503 the model is not there (yet, or again); the last two say when to come back. The API answers from the first
second, while the model is still being fetched: a liveness probe must not end a long download.

`PUT /v1/emergency {"seconds": 30}` holds emergency protection for so long unless it is asked for again; 0 lifts it.
It needs no credential beyond what the other endpoints need: it can only lower what this process does, for a minute at
the most each time, and whoever may ask /v1/embeddings can take as much away from others by filling the queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import asdict
from time import perf_counter
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reembed.core.emergency_limits import Limits
from reembed.embedder import limits
from reembed.embedder.answers import render
from reembed.embedder.download import Progress
from reembed.embedder.failures import EngineBusy, EngineFailed, EngineUnavailable, TextRefused, TextTooLong
from reembed.embedder.hosted.engine import HostedEngine
from reembed.embedder.hosted.failures import BudgetSpent, EndpointFailed, Throttled
from reembed.embedder.membership import Membership, engine
from reembed.embedder.messages import Packs
from reembed.embedder.metrics import CONTENT_TYPE, Metrics
from reembed.embedder.plan import Plan
from reembed.embedder.process import Engine
from reembed.embedder.protection import Admitted, Overloaded, Protection
from reembed.embedder.requests import Malformed, decode, parse, parse_grant, parse_seconds, parse_texts
from reembed.embedder.settings import Settings
from reembed.embedder.text_cache import TextCache
from reembed.embedder.trial import Trial
from reembed.embedder.weights import Chosen

PRIORITY = "x-reembed-priority"
_SMALL_BYTES = 1 << 10
_EMERGENCY_EXAMPLE = '{"seconds": 30}'
_GRANT_EXAMPLE = '{"tokens": 100000, "changed": false}'
# A caller who sends a body slower keeps a place that another waits for.
_BODY_SECONDS = 30
# nginx's status for a caller who left; nobody receives it, but it is counted.
_CALLER_LEFT = 499
_NOT_HOSTED = ("not_hosted", "this pool's model is not hosted elsewhere")


class Late(Exception):
    """A body did not come in time."""


_STATUSES: Mapping[type[Exception], tuple[int, str]] = {
    Late: (408, "late"),
    Malformed: (422, "invalid_request"),
    TextRefused: (422, "invalid_text"),
    TextTooLong: (413, "text_too_long"),
    EngineBusy: (429, "busy"),
    Overloaded: (429, "busy"),
    EngineUnavailable: (503, "unavailable"),
    EngineFailed: (503, "engine_failed"),
    Throttled: (429, "rate_limited"),
    BudgetSpent: (429, "budget_spent"),
    EndpointFailed: (503, "endpoint_failed"),
}

Handler = Callable[[Request, Mapping[str, Any]], Coroutine[Any, Any, Response]]


class Embedder:
    """The routes of one model. `engine` is there once the model's file is."""

    def __init__(self, settings: Settings, cpus: int) -> None:
        self._settings = settings
        self.protection = Protection(limits.normal(settings.model, cpus, settings.device), cpus, self._limit)
        self.cache = TextCache(settings.fingerprint, settings.cache_bytes)
        self._metrics = Metrics(self)
        self._draining = False
        self.progress = Progress()
        self.engine: Engine | HostedEngine | None = None
        self.weights: Chosen | None = None
        self.mapped_bytes = 0
        self.plan: Plan | None = None
        self.trial: Trial | None = None
        self.membership = Membership(settings.model_class, settings.fingerprint)

    @property
    def queue_tokens(self) -> int:
        return self.engine.tokens if self.engine is not None else 0

    @property
    def restarts(self) -> int:
        return self.engine.restarts if self.engine is not None else 0

    @property
    def contexts_peak(self) -> int:
        return self.engine.contexts_peak if self.engine is not None else 0

    @property
    def contexts_busy(self) -> int:
        return self.engine.contexts_busy if self.engine is not None else 0

    @property
    def packs(self) -> Packs:
        return self.engine.packs if self.engine is not None else Packs()

    @property
    def offloads(self) -> bool:
        return self.engine is not None and self.engine.offloads

    @property
    def cosine(self) -> float:
        return self.engine.cosine if self.engine is not None else 0.0

    @property
    def hosted(self) -> HostedEngine | None:
        return self.engine if isinstance(self.engine, HostedEngine) else None

    @property
    def serves(self) -> bool:
        return self.engine is not None and self.engine.ready and self.trial is not None

    def drain(self) -> None:
        """Be ready no more, but go on answering."""
        self._draining = True

    def application(self) -> Starlette:
        routes = [
            Route("/v1/embeddings", self._embeddings, methods=["POST"]),
            Route("/tokenize", self._tokenization, methods=["POST"]),
            Route("/v1/emergency", self._emergency, methods=["PUT"]),
            Route("/v1/loading", self._loading),
            Route("/v1/class", self._class),
            Route("/v1/hosted", self._hosted),
            Route("/v1/hosted", self._grant, methods=["PUT"]),
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/metrics", self._exposition),
        ]
        return Starlette(routes=routes)

    async def _embeddings(self, request: Request) -> Response:
        began = perf_counter()
        response = await self._answered(request, self._embed)
        self._metrics.requests.labels(str(response.status_code)).inc()
        priority = "background" if _is_background(request) else "live"
        self._metrics.seconds.labels(priority).observe(perf_counter() - began)
        return response

    async def _tokenization(self, request: Request) -> Response:
        return await self._answered(request, self._tokenize)

    async def _health(self, _: Request) -> Response:
        """Say that the process lives; a model that cannot be served ends it instead (see `embedder.serving`)."""
        return JSONResponse({"status": "ok"})

    async def _loading(self, _: Request) -> Response:
        """Say how far the model's file is; the operator puts it into the pool's status."""
        return JSONResponse(self.progress.report())

    async def _class(self, _: Request) -> Response:
        """Say by what pods of this model know each other; the operator keeps what the first of them said."""
        if self.hosted is not None:
            return _error(404, "hosted", "this pool's model is hosted elsewhere; /v1/hosted says how its probes look")
        if self.trial is None or self.weights is None or not self.membership.probes:
            return _error(503, "not_ready", "the probes were not embedded yet")
        said = {"fingerprint": self._settings.fingerprint, "probes": self.membership.probes}
        return JSONResponse({**said, "weights": self.weights.type, "engine": engine()})

    async def _ready(self, _: Request) -> Response:
        """Say whether texts are embedded: the engine is ready only after each context embedded a probe."""
        if self._draining:
            return _error(503, "not_ready", "the process is about to end")
        if not self.serves:
            return _error(503, "not_ready", "the model is being loaded")
        if not self.membership.holds():
            return _error(503, "not_ready", str(self.membership.refusal))
        return JSONResponse({"status": "ok", "fingerprint": self._settings.fingerprint})

    async def _exposition(self, _: Request) -> Response:
        return Response(self._metrics.render(), media_type=CONTENT_TYPE)

    async def _answered(self, request: Request, handler: Handler) -> Response:
        """Run a handler and turn what it raises into the status that fits."""
        try:
            # Counted before its body is read, which is the first that a request costs.
            with self.protection.admitted(background=_is_background(request)) as admitted:
                body = decode(await self._body(request, admitted))
                response = await _unless_caller_leaves(request, handler(request, body))
        except ClientDisconnect:
            return Response(status_code=_CALLER_LEFT)
        except tuple(_STATUSES) as error:
            response = _refused(error)
            if isinstance(error, EngineUnavailable):
                # Whoever comes again should come by another connection, which may lead to another pod.
                response.headers["Connection"] = "close"
        if self._draining:
            # A kept-alive connection would outlive this pod's place in its Service.
            response.headers["Connection"] = "close"
        return response

    async def _embed(self, request: Request, body: Mapping[str, Any]) -> Response:
        model = self._settings.model
        asked = parse(body, model, self._settings.default_input_type)
        background = _is_background(request)
        if background:  # emergency protection may have begun while the body was read
            self.protection.refuse_background()
        done = await self._running().embed(asked.prefixed(model), background=background)
        priority = "background" if background else "live"
        self._metrics.texts.labels(asked.input_type.value.lower(), priority).inc(len(asked.texts))
        self._metrics.tokens.inc(sum(done.tokens))
        self._metrics.truncated.inc(len(done.cut))
        self._metrics.waited.labels(priority).observe(done.waited)
        self._metrics.computed.labels(priority).observe(done.computed)
        written = render(done, self._settings.fingerprint, base64=asked.base64)
        return Response(written, media_type="application/json")

    async def _tokenize(self, request: Request, body: Mapping[str, Any]) -> Response:
        """Count tokens, or say where they end; a hosted model's tokens are the endpoint's, and nobody knows them."""
        texts, engine = parse_texts(body), self._running()
        if body.get("ends") is not True:
            return JSONResponse({"tokens": await engine.count(texts)})
        if isinstance(engine, HostedEngine):
            raise Malformed("ends is true, and where the tokens of a hosted model end is not known; leave it out")
        if background := _is_background(request):
            self.protection.refuse_background()
        ends = await engine.ends(texts, background=background)
        return JSONResponse({"tokens": [len(one) for one in ends], "ends": ends})

    async def _body(self, request: Request, admitted: Admitted) -> bytearray:
        most = self.protection.limits.body_bytes
        try:
            return await _read(request, most, "send fewer or shorter texts at a time", admitted.take)
        except Malformed:
            self.protection.refuse_body(most)
            raise

    async def _emergency(self, request: Request) -> Response:
        """Hold or lift emergency protection; not counted among the requests that it limits."""
        try:
            data = await _read(request, _SMALL_BYTES, f"send {_EMERGENCY_EXAMPLE}")
            seconds = parse_seconds(decode(data, _EMERGENCY_EXAMPLE))
        except ClientDisconnect:
            return Response(status_code=_CALLER_LEFT)
        except (Late, Malformed) as error:
            return _refused(error)
        self.protection.hold(seconds)
        return JSONResponse({"seconds": seconds, "limits": asdict(self.protection.limits)})

    async def _hosted(self, _: Request) -> Response:
        """Say what a hosted model cost and how its probes look; the operator counts and compares."""
        engine = self.hosted
        return JSONResponse(engine.report()) if engine is not None else _error(404, *_NOT_HOSTED)

    async def _grant(self, request: Request) -> Response:
        """Take how many tokens of background texts this process may have spent, and whether the model changed."""
        engine = self.hosted
        if engine is None:
            return _error(404, *_NOT_HOSTED)
        try:
            data = await _read(request, _SMALL_BYTES, f"send {_GRANT_EXAMPLE}")
            grant = parse_grant(decode(data, _GRANT_EXAMPLE))
        except ClientDisconnect:
            return Response(status_code=_CALLER_LEFT)
        except (Late, Malformed) as error:
            return _refused(error)
        engine.grant(grant.tokens, changed=grant.changed)
        return JSONResponse({"tokens": grant.tokens, "changed": grant.changed})

    def _limit(self, limits: Limits) -> None:
        if self.engine is not None:
            self.engine.limit(limits)

    def _running(self) -> Engine | HostedEngine:
        if self.engine is None:
            raise EngineUnavailable("the model is being fetched; try again soon")
        if self.trial is None:
            raise EngineUnavailable("the model is being tried; try again soon")
        if self.membership.refusal is not None:
            raise EngineUnavailable("this pod is not of its collection's class, and ends; another one may answer")
        return self.engine


def _is_background(request: Request) -> bool:
    return request.headers.get(PRIORITY, "").lower() == "background"


async def _read(request: Request, most: int, advice: str, take: Callable[[int], None] = lambda _: None) -> bytearray:
    data = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for block in request.stream():
                take(len(block))
                data += block
                if len(data) > most:
                    raise Malformed(f"the body is larger than {most} bytes; {advice}")
    except TimeoutError:
        raise Late(f"the body was not whole after {_BODY_SECONDS} seconds ({len(data)} bytes); send it again") from None
    return data


async def _unless_caller_leaves(request: Request, answer: Coroutine[Any, Any, Response]) -> Response:
    """Await `answer`, but cancel it when the caller goes away: what nobody waits for is not computed."""
    work = asyncio.create_task(answer)
    watch = asyncio.create_task(_left(request.receive))
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        work.cancel()
        watch.cancel()


async def _left(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _refused(error: Exception) -> Response:
    status, kind = _STATUSES[type(error)]
    return _error(status, kind, str(error), getattr(error, "index", None), getattr(error, "retry_after", 1))


def _error(status: int, kind: str, message: str, index: int | None = None, retry_after: int = 1) -> Response:
    where = {} if index is None else {"index": index}
    headers = {"Retry-After": str(retry_after)} if status in {429, 503} else None
    return JSONResponse({"error": {"type": kind, "message": message, **where}, **where}, status, headers)
