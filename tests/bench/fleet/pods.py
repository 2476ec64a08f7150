"""Answers for every pod of a fleet: `python -m tests.bench.fleet.pods PORT ACTIVE`.

A process of its own, so that nothing of it is counted as the operator's. The pages are those of real components; what
they count grows with time, as under a steady load. Only addresses tell pods apart. Standard output says once that it
listens; then each line of standard input is one order: `moving` has the active members serve a candidate.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

from aiohttp import web

from reembed.api.reports import render_gateway_report, render_store_report
from reembed.core.model import Arm, CollectionReport, GatewayReport, Model, Pooling, Routing, StoreReport
from reembed.embedder.app import Embedder
from reembed.embedder.metrics import Metrics
from reembed.embedder.settings import Settings
from reembed.gateway.meter import Meter, Outcome, Result
from tests.bench.fleet import objects, shape
from tests.bench.fleet.shape import Role

# Of each gateway pod and arm: callers' queries in a second, and seconds between its own.
_RATE = 5
_PROBE_EVERY = 5
_QUERY_SECONDS = (0.0082, 0.0111, 0.0124, 0.0163, 0.0279)
# A sketch of one vector, 64 ones.
_PROBES = base64.b64encode(b"\0\x3c" * 64).decode()
# What stands for an arm's collection in a page that is rendered once for all gateways.
_PLACES = {"a": "<serving>", "b": "<candidate>"}


class Load:
    """What one gateway counted since the benchmark began."""

    def __init__(self, sides: str) -> None:
        self._meter = Meter()
        self._arms = [Arm("", _PLACES[side], "") for side in sides]
        self._began = monotonic()
        self._seconds = -1
        self._page = ""

    def page(self, routing: Routing) -> str:
        """Return the page of this second; gateways of one kind differ in their collections alone."""
        elapsed = int(monotonic() - self._began) + 1
        if elapsed != self._seconds:
            for second in range(self._seconds + 1, elapsed + 1):
                self._count(second)
            self._seconds = elapsed
            self._page = self._meter.exposition(routing).decode()
        return self._page

    def _count(self, second: int) -> None:
        for arm in self._arms:
            for number in range(_RATE):
                self._meter.arm(arm, Outcome.OK, seconds=_QUERY_SECONDS[number % _RATE], probe=False)
                self._meter.answer(Result.ANSWERED)
            if second % _PROBE_EVERY == 0:
                self._meter.arm(arm, Outcome.OK, seconds=0.009, probe=True)


class FleetPods:
    """All pods of a fleet."""

    def __init__(self, active: int) -> None:
        self._active = active
        self._moving = False
        self._loads = {"a": Load("a"), "ab": Load("ab")}
        self._embedder = _embedder_page()

    def obey(self, order: str) -> None:
        if order == "moving":
            self._moving = True

    def application(self) -> web.Application:
        made = web.Application()
        made.add_routes([web.get("/v1/index", _answering(self._index)), web.get("/status", _answering(self._store))])
        made.add_routes([web.get("/metrics", self._metrics), web.get("/v1/class", _answering(self._class))])
        return made

    def _moves(self, member: int) -> bool:
        return self._moving and member < self._active

    def _index(self, role: Role, member: int) -> dict[str, object]:
        routing = objects.routing(member, moving=self._moves(member))
        weight = 0 if role is Role.WITHHOLDING_GATEWAY else routing.weight
        pod = f"gateway-{member}-{role.value}"
        return render_gateway_report(GatewayReport(pod, routing.epoch, weight, routing.serving, routing.candidate))

    def _store(self, _: Role, member: int) -> dict[str, object]:
        collections = tuple(_collection(objects.arm(member, side)) for side in self._sides(member))
        return render_store_report(StoreReport(None, objects.pointer(member), objects.DOCUMENTS, collections))

    def _class(self, role: Role, member: int) -> dict[str, object]:
        side = "a" if role is Role.SERVING_POOL else "b"
        return {"fingerprint": objects.arm(member, side).fingerprint, "probes": _PROBES}

    async def _metrics(self, request: web.Request) -> web.Response:
        role, member = _asked(request)
        if role in (Role.SERVING_POOL, Role.TARGET_POOL):
            return web.Response(text=self._embedder)
        sides = self._sides(member)
        page = self._loads[sides].page(objects.routing(member, moving=self._moves(member)))
        for side in sides:
            page = page.replace(_PLACES[side], shape.collection(member, side))
        return web.Response(text=page)

    def _sides(self, member: int) -> str:
        return "ab" if self._moves(member) else "a"


def _answering(answer: Callable[[Role, int], dict[str, object]]) -> Callable[[web.Request], object]:
    async def handle(request: web.Request) -> web.Response:
        return web.json_response(answer(*_asked(request)))

    return handle


def _asked(request: web.Request) -> tuple[Role, int]:
    return shape.at(request.host.partition(":")[0])


def _collection(arm: Arm) -> CollectionReport:
    count = objects.DOCUMENTS
    return CollectionReport(
        arm.collection, arm.fingerprint, objects.DIMENSIONS, "Indexed", 4, 4, count, 0, count, 0.0, None, None
    )


def _embedder_page() -> str:
    """Return an embedder's page with the memory of a pod; this machine's is nothing to judge by."""
    settings = Settings(Model("file:///model", "0" * 64, Pooling.MEAN, 384, 256), "fp", None, Path(), Path(), 8080)
    metrics = Metrics(Embedder(settings, 2))
    for _ in range(100):
        metrics.requests.labels("200").inc()
        metrics.texts.labels("query", "live").inc()
        metrics.seconds.labels("live").observe(0.01)
    values = {"reembed_memory_used_bytes": 180e6, "reembed_memory_limit_bytes": 512e6}

    def lines() -> Iterator[str]:
        for line in metrics.render().decode().splitlines():
            name = line.split(" ")[0]
            yield f"{name} {values[name]}" if name in values else line

    return "\n".join(lines()) + "\n"


async def _main(port: int, active: int) -> None:
    pods = FleetPods(active)
    runner = web.AppRunner(pods.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()
    print("listening", flush=True)  # noqa: T201 - whoever started it waits for this
    while line := await asyncio.to_thread(sys.stdin.readline):
        pods.obey(line.strip())
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2])))
