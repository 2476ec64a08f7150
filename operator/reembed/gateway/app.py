"""The HTTP application of a gateway: what each endpoint answers, and which code each failure gets.

Made by `__main__` with a real index, embedders and database, and by the tests with other ones behind the same
interfaces. The routing is taken once per request, before its arm is chosen, and everything that the answer says of
itself comes from that one snapshot.

    422, 413   the request is at fault (by the serving model's word too)
    408        its body did not come in time; it had no place meanwhile
    429        more requests are under way than this process does at once
    503        nothing may answer yet, or every arm that could answer failed
"""

from __future__ import annotations

import asyncio
import base64
import logging
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from sys import byteorder
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reembed.api import render_gateway_report
from reembed.client import Embedded, EmbedderBusy, TextRefused, TextTooLong
from reembed.core.model import Arm, GatewayReport, Routing
from reembed.gateway import exchange
from reembed.gateway.accepting import Accepting, Judging
from reembed.gateway.answer import Answer, Answering, ArmsFailed, Deadlines, NothingServes
from reembed.gateway.documents import DOCUMENTS_BYTES, Documents
from reembed.gateway.embedders import Embedder, Embedders
from reembed.gateway.follow import Follower, LeaderLease, RoutingSource
from reembed.gateway.guard import Guard
from reembed.gateway.in_force import RoutingInForce
from reembed.gateway.meter import Meter
from reembed.gateway.probe import Prober
from reembed.gateway.queries import Queries
from reembed.gateway.requests import (
    EMBEDDINGS_BYTES,
    SEARCH_BYTES,
    BadRequest,
    EmbeddingsRequest,
    parse_embeddings,
    parse_search,
)
from reembed.gateway.shadow import Shadow
from reembed.stores.protocol import FilterRefused, Hit, Remembering, Searching

_WAIT_FOR_VECTORS = 30.0
_WAIT_FOR_PLACE = 1.0
_WAIT_AFTER_FAILURE = 1.0

_log = logging.getLogger(__name__)

Endpoint = Callable[[Request, bytes], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Settings:
    """Which index this process serves, and its limits.

    `concurrency` is requests under way: each is mostly waiting, and the number bounds memory and how long a burst
    lasts. A candidate gets half of these places and three fifths of the store's `connections`; requests with a large
    body get a quarter.
    """

    namespace: str
    index: str
    pod: str
    concurrency: int = 128
    connections: int = 10
    deadlines: Deadlines = field(default_factory=Deadlines)


class Gateway:
    """The endpoints, and the tasks that run beside them."""

    def __init__(
        self,
        settings: Settings,
        source: RoutingSource,
        connect: Callable[[Arm], Embedder],
        store: Searching,
        leader: LeaderLease | None = None,
        judging: Judging | None = None,
    ) -> None:
        self._settings = settings
        self._meter = Meter()
        self._held = RoutingInForce()
        self._embedders = Embedders(connect)
        self._queries = Queries(self._embedders, store, settings.connections * 3 // 5)
        self._answering = Answering(self._meter, settings.deadlines, Guard(settings.concurrency // 2))
        self._admission = exchange.Admission(settings.concurrency)
        self._large = exchange.Admission(max(1, settings.concurrency // 4))
        remembering = store if isinstance(store, Remembering) else None
        accepting = Accepting(self._held, remembering, self._meter, judging or Judging())
        self._follower = Follower(source, self._held, accepting, leader)
        self._prober = Prober(self._held, self._answering, self._queries, self._embedders)
        self._shadow = Shadow(self._queries, self._meter, self._held.snapshot)
        self._documents = Documents(store)
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []

    def app(self) -> Starlette:
        """Return the ASGI application; its lifespan runs the follower and the prober."""
        return Starlette(
            routes=[
                Route("/v1/search", self._answered(self._search, SEARCH_BYTES), methods=["POST"]),
                Route("/v1/embeddings", self._answered(self._embeddings, EMBEDDINGS_BYTES), methods=["POST"]),
                *self._document_routes(),
                Route("/v1/index", self._index),
                Route("/health", self._health),
                Route("/ready", self._ready),
                Route("/metrics", self._metrics),
            ],
            exception_handlers={HTTPException: _no_such_endpoint},
            lifespan=self._lifespan,
        )

    def _document_routes(self) -> list[Route]:
        documents = self._documents
        put, delete, get = (
            self._answered(each, DOCUMENTS_BYTES) for each in (documents.put, documents.delete, documents.get)
        )
        return [
            Route("/v1/documents", put, methods=["PUT"]),
            Route("/v1/documents", delete, methods=["DELETE"]),
            Route("/v1/documents/{document:path}", delete, methods=["DELETE"]),
            Route("/v1/documents/{document:path}", get, methods=["GET"]),
        ]

    def drain(self) -> None:
        """Stop being ready and ask callers to leave, but answer whoever still comes."""
        self._draining = True

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._tasks = [asyncio.create_task(self._follower.run()), asyncio.create_task(self._prober.run())]
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
                if not isinstance(ended, asyncio.CancelledError):
                    _log.error("a task beside the queries had ended", exc_info=ended)
            await self._shadow.close()
            await self._embedders.close()

    async def _search(self, request: Request, body: bytes) -> Response:
        asked = parse_search(body)
        routing = self._held.snapshot()
        key = request.headers.get("x-reembed-user") or asked.query
        work = self._queries.search(asked.query, asked.k, asked.within)
        answer = await exchange.while_connected(request, self._answering.answer(routing, key, work))
        results = [_found(hit) for hit in answer.value]
        afterwards = self._shadow.after(routing, key, asked, answer)
        return JSONResponse({"results": results} | _origin(routing, answer), background=afterwards)

    async def _embeddings(self, request: Request, body: bytes) -> Response:
        asked = parse_embeddings(body)
        routing = self._held.snapshot()
        # One bucket per request: vectors of two models in one answer could not be compared.
        key = request.headers.get("x-reembed-user") or asked.user or "\n".join(asked.texts)
        work = self._queries.embed(asked.texts, asked.input_type)
        answering = self._answering.answer(routing, key, work, timed=len(asked.texts) == 1)
        answer = await exchange.while_connected(request, answering)
        if asked.dimensions not in {None, answer.value.dimensions}:
            raise BadRequest(
                422,
                "invalid_field",
                f"'dimensions' is {asked.dimensions}; the model that answers has {answer.value.dimensions}: leave the "
                "field out, since a migration may change it",
            )
        return JSONResponse(_openai(asked, answer.value) | _origin(routing, answer))

    async def _index(self, _request: Request) -> Response:
        routing = self._held.snapshot()
        sides, refused = (routing.serving, routing.candidate), self._held.refused
        report = GatewayReport(self._settings.pod, routing.epoch, routing.weight, *sides, refused)
        return JSONResponse(render_gateway_report(report))

    async def _health(self, _request: Request) -> Response:
        if any(task.done() for task in self._tasks):
            # A defect: they run for ever. Without them routing and probes stand still, so the pod is better restarted.
            return exchange.error(503, "broken", "a task beside the queries has ended; this process must be restarted")
        return JSONResponse({"status": "ok"})

    async def _ready(self, _request: Request) -> Response:
        if self._draining:
            return exchange.error(503, "draining", "this process is about to end; another one answers")
        if not self._prober.ready:
            return exchange.error(
                503, "not_ready", "the index was not read yet, or what serves has not answered a probe"
            )
        return JSONResponse({"status": "ready"})

    async def _metrics(self, _request: Request) -> Response:
        content = self._meter.exposition(self._held.snapshot())
        return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")

    def _answered(self, endpoint: Endpoint, most_bytes: int) -> Callable[[Request], Awaitable[Response]]:
        """Return `endpoint` with a place to hold and with an answer for everything that can go wrong in it."""

        async def answered(request: Request) -> Response:
            try:
                with ExitStack() as places:
                    # The place is taken when the body is here: a caller that sends slowly holds none.
                    becomes_large = partial(places.enter_context, self._large.admitted())
                    body = await exchange.body(request, most_bytes, becomes_large)
                    places.enter_context(self._admission.admitted())
                    response = await endpoint(request, body)
            except (BadRequest, TextRefused, FilterRefused, exchange.Full) as error:
                response = _refusal(error)
                self._meter.refused(response.status_code)
            except (NothingServes, ArmsFailed) as error:
                response = self._unavailable(error)
            except (exchange.HungUp, ClientDisconnect):
                response = Response(status_code=499)  # nobody reads it
            if self._draining:
                # Kept-alive connections would otherwise end under their caller's next request.
                response.headers["Connection"] = "close"
            return response

        return answered

    def _unavailable(self, error: NothingServes | ArmsFailed) -> Response:
        name = f"{self._settings.namespace}/{self._settings.index}"
        if isinstance(error, ArmsFailed):
            wait = error.cause.retry_after if isinstance(error.cause, EmbedderBusy) else _WAIT_AFTER_FAILURE
            message = f"no model of index {name} could answer; what serves said: {error}"
            return exchange.error(503, "unavailable", message, retry_after=wait)
        if not self._held.known:
            message = f"this gateway has not read index {name} from the API server yet"
            return exchange.error(503, "not_ready", message, retry_after=_WAIT_AFTER_FAILURE)
        message = (
            f"index {name} has no vectors that may answer yet: its first migration has to finish; "
            "look at it with `kubectl get embeddingmigrations`"
        )
        return exchange.error(503, "no_vectors", message, retry_after=_WAIT_FOR_VECTORS)


def _refusal(error: BadRequest | TextRefused | FilterRefused | exchange.Full) -> Response:
    if isinstance(error, exchange.Full):
        message = "this gateway has as many requests under way as it does at once; come back later or add replicas"
        return exchange.error(429, "busy", message, retry_after=_WAIT_FOR_PLACE)
    if isinstance(error, BadRequest):
        response = exchange.error(error.code, error.kind, str(error))
        if error.code == 408:
            response.headers["Connection"] = "close"  # what still comes of the body would be read as a request
        return response
    if isinstance(error, FilterRefused):
        return exchange.error(422, "invalid_filter", str(error))
    too_long = isinstance(error, TextTooLong)
    return exchange.error(413 if too_long else 422, "text_too_long" if too_long else "invalid_text", str(error))


async def _no_such_endpoint(request: Request, error: Exception) -> Response:
    code = error.status_code if isinstance(error, HTTPException) else 500
    message = (
        f"{request.method} {request.url.path} is nothing this gateway answers; it has POST /v1/search, "
        "POST /v1/embeddings, PUT, GET and DELETE /v1/documents, GET /v1/index, /health, /ready and /metrics"
    )
    return exchange.error(code, "no_such_endpoint", message)


def _origin(routing: Routing, answer: Answer[Any]) -> dict[str, Any]:
    """Return what an answer says of where it comes from."""
    return {
        "pool": answer.arm.pool,
        "collection": answer.arm.collection,
        "fingerprint": answer.arm.fingerprint,
        "arm": "serving" if answer.arm == routing.serving else "candidate",
        "fellBack": answer.fell_back,
        "epoch": routing.epoch,
    }


def _found(hit: Hit) -> dict[str, Any]:
    """Return a document found; with what of it was nearest if it has parts, and its metadata if any."""
    part = {"start": hit.span.start, "end": hit.span.end} if hit.span is not None else {}
    row = {"row": hit.row} if hit.row is not None else {}
    metadata = {"metadata": hit.metadata} if hit.metadata is not None else {}
    return {"id": hit.id, "score": hit.score, **row, **part, **metadata}


def _openai(asked: EmbeddingsRequest, embedded: Embedded) -> dict[str, Any]:
    """Return the answer as OpenAI's clients read it."""
    render = _base64 if asked.as_base64 else _floats
    return {
        "object": "list",
        "model": embedded.fingerprint,
        "data": [
            {"object": "embedding", "index": index, "embedding": render(vector)}
            for index, vector in enumerate(embedded.vectors)
        ],
        "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
        "truncated": list(embedded.truncated),
    }


def _base64(vector: bytes) -> str:
    return base64.b64encode(vector).decode()


def _floats(vector: bytes) -> list[float]:
    numbers = array("f", vector)
    if byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
