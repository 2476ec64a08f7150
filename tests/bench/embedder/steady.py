"""Our embedder under a load that does not change: how latencies differ, how right vectors are, how memory grows."""

from __future__ import annotations

import base64
import itertools
import random
import urllib.request
from collections.abc import Mapping, Sequence
from json import dumps, loads
from typing import Any

import numpy as np

from tests.bench.embedder.figures import Figure, figure, slope, variation
from tests.bench.embedder.load import opened
from tests.bench.embedder.machine import watched
from tests.bench.embedder.servers import Server, Worker
from tests.bench.embedder.texts import MAX_TOKENS
from tests.reference_model import ReferenceModel

_LOADED = 0.7
_CALLERS = 16
_REPEATS = 3
# The first minutes fill buffers that stay.
_SETTLED = 0.2
_PLAN = "reembed_embedder_memory_plan_bytes "
_TIMEOUT = 120


def variations(server: Server, texts: Sequence[str], seconds: float) -> dict[str, Figure | None]:
    """Return how latencies of equally long texts differ at 70 % of what 16 callers get of them."""
    found = [_variations(server, texts, seconds, number) for number in range(_REPEATS)]
    names = ("latency_variation_percent", "latency_variation_random_percent")
    return {name: figure(values) for name, values in zip(names, zip(*found, strict=True), strict=True)}


def _variations(server: Server, texts: Sequence[str], seconds: float, number: int) -> tuple[float, float]:
    rate = _LOADED * server.ask(texts, _CALLERS, 1.5 * seconds).rate
    count = int(rate * 2 * seconds)
    rng = random.Random(number)
    even = [number / rate for number in range(count)]
    chance = list(itertools.accumulate(rng.expovariate(rate) for _ in range(count)))
    first, second = (variation(opened(server.port, texts, dues).seconds) for dues in (even, chance))
    return first, second


def cosines(ours: Server, others: Sequence[Server | Worker], texts: Sequence[str], reference: ReferenceModel) -> Any:
    """Return the smallest cosine to the published model's vectors, ours and that of all others."""
    truth = np.stack([reference.embed(text, MAX_TOKENS) for text in texts])

    def least(side: Server | Worker) -> float:
        vectors = np.asarray(side.vectors(texts)) if isinstance(side, Worker) else _vectors(side, texts)
        return float(np.sum(vectors * truth, axis=1).min())

    return {"cosine_min": _one(least(ours)), "other_cosine_min": _one(min(map(least, others)))}


def planned(server: Server) -> float | None:
    """Return how much anonymous memory the embedder says that it needs, if it does."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=_TIMEOUT) as answer:
        lines = answer.read().decode().splitlines()
    return next((float(line.removeprefix(_PLAN)) for line in lines if line.startswith(_PLAN)), None)


def growth(server: Server, texts: Sequence[str], minutes: float) -> dict[str, Figure | None]:
    """Return the slope of anonymous memory under mixed load, and its standard error."""
    with watched(server.pid, every=1.0) as memory:
        server.ask(texts, _CALLERS, 60 * minutes)
    samples = memory.samples[int(_SETTLED * len(memory.samples)) :]
    grows, error = slope(*zip(*samples, strict=True))
    return {"memory_slope_mib_per_hour": _one(grows), "memory_slope_error_mib_per_hour": _one(error)}


def _vectors(server: Server, texts: Sequence[str]) -> Any:
    body = dumps({"input": list(texts), "encoding_format": "base64"}).encode()
    url, headers = f"http://127.0.0.1:{server.port}/v1/embeddings", {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=_TIMEOUT) as answer:
        data: Sequence[Mapping[str, str]] = loads(answer.read())["data"]
    return np.stack([np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in data])


def _one(value: float) -> Figure:
    return Figure(value, value, value)
