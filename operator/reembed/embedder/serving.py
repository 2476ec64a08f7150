"""The life of an embedder: answer at once, fetch the model, run the engine, and drain when told to end.

Kubernetes takes a pod out of its Service only some time after it sent SIGTERM, and callers with kept-alive connections
do not notice. So the process first stops being ready and goes on answering, closing each connection after its answer;
only then does it stop to accept. A model that cannot be served ends the process with a refusal, which `__main__` tells.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from types import FrameType
from typing import Any

import uvicorn

from reembed import cgroup
from reembed.core.model import Device, Hosted, WeightType
from reembed.embedder import tiles
from reembed.embedder.app import Embedder
from reembed.embedder.fetch import Means, fetch
from reembed.embedder.gguf import Header
from reembed.embedder.hosted.engine import HostedEngine
from reembed.embedder.hosted.terms import Terms
from reembed.embedder.hosted.throttle import Throttle
from reembed.embedder.hosted.upstream import Upstream
from reembed.embedder.messages import Start
from reembed.embedder.plan import Plan, plan
from reembed.embedder.process import Engine
from reembed.embedder.settings import Settings
from reembed.embedder.trial import Trial, tried
from reembed.embedder.weights import choose, cpu_flags

_log = logging.getLogger("reembed.embedder")

# How long a process that was told to end still answers. Endpoints and proxies learn of it within about this time.
_DRAIN_SECONDS = 5.0
# What is under way after that: a large request of documents on a slow CPU.
_FINISH_SECONDS = 40


class _Server(uvicorn.Server):
    """uvicorn that drains before it stops."""

    def __init__(self, config: uvicorn.Config, embedder: Embedder) -> None:
        super().__init__(config)
        self._embedder = embedder
        self._draining = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal ends at once."""
        if self._draining or self.should_exit:
            self.should_exit = self.force_exit = True
            return
        self._draining = True
        self._embedder.drain()
        wait = _DRAIN_SECONDS if self._embedder.serves else 0.0
        asyncio.get_running_loop().call_later(wait, self.stop)

    def stop(self) -> None:
        self.should_exit = True


async def serve(settings: Settings) -> None:
    """Serve one model until told to end.

    Raises:
        Refusal: the model cannot be served.

    """
    cpus = max(1, int(cgroup.cpus()))
    embedder = Embedder(settings, cpus)
    config = uvicorn.Config(
        embedder.application(),
        host="0.0.0.0",
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_FINISH_SECONDS,
    )
    server = _Server(config, embedder)
    model = asyncio.create_task(_work(settings, embedder, cpus))
    serving = asyncio.create_task(server.serve())
    await asyncio.wait({model, serving}, return_when=asyncio.FIRST_COMPLETED)
    server.stop()
    await serving
    model.cancel()
    try:
        await model
    except asyncio.CancelledError:
        _log.info("drained; the process ends")


def _work(settings: Settings, embedder: Embedder, cpus: int) -> Coroutine[Any, Any, None]:
    hosted = settings.model.hosted
    return _run_model(settings, embedder, cpus) if hosted is None else _run_hosted(settings, embedder, hosted)


async def _run_hosted(settings: Settings, embedder: Embedder, hosted: Hosted) -> None:
    """Ask a hosted model's endpoint until cancelled; raises the refusal if it does not take the pool's requests."""
    model, endpoint = settings.model, settings.endpoint
    throttle = Throttle(endpoint.requests_per_minute / 60, endpoint.tokens_per_minute / 60)
    upstream = Upstream(model, hosted, endpoint.key)
    engine = HostedEngine(upstream, embedder.protection.limits, embedder.cache, Terms(throttle, endpoint.budgeted))
    _log.info("the vectors of %s are asked of model %s at %s", settings.fingerprint, hosted.name, model.uri)
    await _run(engine, settings, embedder)


async def _run(engine: Engine | HostedEngine, settings: Settings, embedder: Embedder) -> None:
    """Keep an engine until cancelled.

    Raises:
        Refusal: it can't be served, does not pass its trial, or is not of its collection's class.

    """
    embedder.engine = engine
    engine.start()
    trial = asyncio.create_task(tried(engine, settings.model, settings.references, settings.min_cosine))
    strange = asyncio.create_task(embedder.membership.ends.wait())
    try:
        await _first(trial, engine.failed)
        if not engine.failed.done():
            found = trial.result()
            embedder.membership.begin(found.probes)
            embedder.trial = found
            embedder.cache.begin()
            _told(found)
        await _first(strange, engine.failed)
        raise embedder.membership.refusal or engine.failed.result()
    finally:
        trial.cancel()
        strange.cancel()
        await engine.close()


async def _first(*ends: asyncio.Future[Any]) -> None:
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)


def _told(trial: Trial) -> None:
    if trial.tokens_per_second is not None:
        _log.info("the engine is ready: %.0f tokens/s of the probes", trial.tokens_per_second)
    if (found := trial.validated) is not None:
        text = "the pool's references are met: cosine %.5f at the least, %.5f on average, %.1f%% nearest to their own"
        _log.info(text, found.cosine_min, found.cosine_mean, 100 * found.accuracy)


async def _run_model(settings: Settings, embedder: Embedder, cpus: int) -> None:
    """Fetch the model and keep an engine running until cancelled; raises the refusal if it can't be served."""
    plans: list[Plan] = []

    def check(header: Header) -> None:
        memory = cgroup.memory().limit
        embedder.plan = plan(header, settings.model, cpus, settings.device, settings.cache_bytes, memory)
        plans.append(embedder.plan)

    means = Means(settings.access, progress=embedder.progress)
    path = await fetch(settings.model, settings.cache, means=means, check=check)
    planned = plans[-1]  # no file is whole without its header
    # Two models are measured side by side, each with a context of its own.
    measurable = settings.device is not Device.GPU and len(planned.capacities) > 1
    wanted = settings.weights if measurable else WeightType.AS_FILE
    weights = await choose(path, settings.model, settings.cache, wanted, tiles.library(cpu_flags()))
    contexts = (planned.capacities, planned.piece)
    start = Start(weights.path, settings.model, cpus, *contexts, settings.device, weights.tiles)
    engine = Engine(start, embedder.protection.limits, embedder.cache)
    embedder.weights, embedder.mapped_bytes = weights, weights.path.stat().st_size
    text = "the model of %s is here; the engine starts for %d CPUs with weights in %s, %d contexts and %d MiB of memory"
    count, memory = len(planned.capacities), planned.anonymous >> 20
    way = f"{weights.type}, by tiles," if weights.tiles is not None else weights.type
    _log.info(text, settings.fingerprint, cpus, way, count, memory)
    if count < (most := embedder.protection.limits.contexts):
        _log.warning("the memory limit has room for %d contexts of %d: raise limits.memory for more speed", count, most)
    await _run(engine, settings, embedder)
