"""A pod is ready without a class, agrees with it once it is there, or is refused; the engine is a double."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from reembed.core.model import Hosted, Model, Pooling
from reembed.embedder.app import Embedder
from reembed.embedder.failures import EngineFailed, TextRefused
from reembed.embedder.hosted.engine import HostedEngine, Terms
from reembed.embedder.limits import normal
from reembed.embedder.membership import Membership
from reembed.embedder.messages import Done, Packs
from reembed.embedder.probes import PROBES
from reembed.embedder.refusals import ClassMismatch
from reembed.embedder.settings import Settings, from_environment
from reembed.embedder.sketch import sketch
from reembed.embedder.trial import Trial, tried
from reembed.embedder.weights import Chosen
from tests.fixtures.exposition import parse

pytestmark = pytest.mark.looptime

MODEL = Model("http://models/a.gguf", "0" * 64, Pooling.MEAN, 16, 256)
F32 = np.random.default_rng(2).standard_normal((len(PROBES), 16)).astype(np.float32)
F16 = F32.astype(np.float16).astype(np.float32)
BF16 = (F32.view(np.uint32) & 0xFFFF0000).view(np.float32)
ANOTHER = np.random.default_rng(4).standard_normal((len(PROBES), 16)).astype(np.float32)


class Engine:
    """Knows the vectors of the probes; refuses some of them, and fails at first."""

    ready, offloads, cosine, packs, restarts = True, False, 1.0, Packs(), 0
    tokens = contexts_peak = contexts_busy = 0

    def __init__(self, vectors: np.ndarray, refuses: Sequence[int] = (), fails: int = 0) -> None:  # type: ignore[type-arg]
        self._vectors = vectors
        self._refuses = refuses
        self._fails = fails
        self.up = asyncio.Event()
        self.up.set()
        self.asked = 0

    async def embed(self, texts: Sequence[str], *, background: bool) -> Done:
        (text,) = texts
        self.asked += 1
        if self.asked <= self._fails:
            raise EngineFailed("not now")
        if (number := PROBES.index(text)) in self._refuses:
            raise TextRefused(0, "has too many tokens")
        return Done(0, self._vectors[number].astype("<f4").tobytes(), (3,), ())


def membership(known: str | None, directory: Path) -> Membership:
    path = directory / "probes"
    if known is not None:
        path.write_text(known)
    return Membership(path, "fp-1")


async def test_the_trial_sketches_the_probes_as_they_are() -> None:
    assert (await tried(Engine(F32), MODEL, None, 0.999)).probes == sketch(F32)


async def test_probes_that_the_model_does_not_take_are_left_out() -> None:
    found = await tried(Engine(F32, refuses=(0, 2)), MODEL, None, 0.999)
    assert found.probes == sketch(F32[[1, 3, 4]])


async def test_an_engine_that_fails_meanwhile_is_asked_again() -> None:
    assert (await tried(Engine(F32, fails=2), MODEL, None, 0.999)).probes == sketch(F32)


async def test_a_model_that_takes_no_probe_has_none() -> None:
    assert await tried(Engine(F32, refuses=range(5)), MODEL, None, 0.999) == Trial(0.0)


async def test_a_hosted_model_is_asked_for_nothing() -> None:
    hosted = Model("http://h/v1", "", Pooling.MEAN, 16, 256, hosted=Hosted("small", 1000))
    engine = Engine(F32)
    assert (await tried(engine, hosted, None, 0.999), engine.asked) == (Trial(), 0)


def test_without_a_file_a_pod_is_ready_and_looks_again(tmp_path: Path) -> None:
    found = membership(None, tmp_path)
    found.begin(sketch(F32))
    assert (found.holds(), found.cosine) == (True, None)


@pytest.mark.parametrize(("first", "own"), [(F32, F32), (F16, BF16), (BF16, F16), (F32, BF16)])
def test_types_of_weights_are_one_class(first: np.ndarray, own: np.ndarray, tmp_path: Path) -> None:  # type: ignore[type-arg]
    found = membership(sketch(first) + "\n", tmp_path)
    found.begin(sketch(own))
    assert found.cosine == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "known", [sketch(ANOTHER), sketch(F32[:4]), "", "garbage\x00", "\ud7ff"], ids=["model", "fewer", "empty", "no", "x"]
)
def test_anything_else_in_the_file_refuses_the_pod(known: str, tmp_path: Path) -> None:
    found = membership(known, tmp_path)
    with pytest.raises(ClassMismatch, match="is never ready"):
        found.begin(sketch(F32))


def test_a_pod_that_reads_no_probe_is_not_of_a_class_that_does(tmp_path: Path) -> None:
    with pytest.raises(ClassMismatch, match="cannot be compared"):
        membership(sketch(F32), tmp_path).begin("")


def test_a_file_that_comes_later_is_compared_once(tmp_path: Path) -> None:
    found = membership(None, tmp_path)
    found.begin(sketch(F32))
    (tmp_path / "probes").write_text(sketch(BF16))
    assert found.holds()
    settled = found.cosine
    (tmp_path / "probes").write_text(sketch(ANOTHER))
    assert (found.holds(), found.cosine) == (True, settled)


async def test_a_file_of_another_class_that_comes_later_ends_the_pod(tmp_path: Path) -> None:
    found = membership(None, tmp_path)
    found.begin(sketch(F32))
    (tmp_path / "probes").write_text(sketch(ANOTHER))
    assert (found.holds(), found.holds(), found.ends.is_set(), found.refusal is not None) == (False, False, True, True)


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Embedder]]:
    embedder = Embedder(Settings(MODEL, "fp-1", None, Path("/cache"), Path("/log"), 8080, model_class=path), 1)
    embedder.engine = Engine(F32)  # type: ignore[assignment]
    transport = httpx.ASGITransport(embedder.application())
    async with httpx.AsyncClient(transport=transport, base_url="http://embedder") as http:
        yield http, embedder


async def test_a_pod_says_what_its_class_is_once_it_was_tried(tmp_path: Path) -> None:
    async with serving(tmp_path / "probes") as (http, embedder):
        before = await http.get("/v1/class")
        embedder.membership.begin(sketch(F32))
        embedder.trial, embedder.weights = Trial(1.0, None, sketch(F32)), Chosen(Path("/f"), "BF16")
        found = (await http.get("/v1/class")).json()
    assert (before.status_code, found["fingerprint"], found["probes"], found["weights"]) == (
        503,
        "fp-1",
        sketch(F32),
        "BF16",
    )
    assert found["engine"].startswith("llama-cpp-python ")


async def test_a_pod_of_a_hosted_model_has_no_class(tmp_path: Path) -> None:
    upstream = SimpleNamespace(model=MODEL, hosted=Hosted("small", 1000))
    async with serving(tmp_path / "probes") as (http, embedder):
        engine = HostedEngine(upstream, normal(MODEL, 1), embedder.cache, Terms())  # type: ignore[arg-type]
        embedder.engine, embedder.trial = engine, Trial()
        found = await http.get("/v1/class")
    assert (found.status_code, found.json()["error"]["type"]) == (404, "hosted")


async def test_a_pod_that_turns_out_to_be_strange_is_not_ready_and_embeds_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path / "probes") as (http, embedder):
        embedder.membership.begin(sketch(F32))
        embedder.trial = Trial(1.0, None, sketch(F32))
        first = (await http.get("/ready")).status_code
        (tmp_path / "probes").write_text(sketch(ANOTHER))
        again = await http.get("/ready")
        asked = await http.post("/v1/embeddings", json={"input": PROBES[0]})
    assert (first, again.status_code, asked.status_code) == (200, 503, 503)
    assert "at least 0.999 is needed" in again.json()["error"]["message"]


async def test_the_cosine_is_told_once_it_is_known(tmp_path: Path) -> None:
    async with serving(tmp_path / "probes") as (http, embedder):
        embedder.membership.begin(sketch(F32))
        before = (await http.get("/metrics")).text
        (tmp_path / "probes").write_text(sketch(F32))
        embedder.membership.holds()
        after = parse((await http.get("/metrics")).text)
    found = [value for name, _, value in after if name == "reembed_embedder_class_cosine"]
    assert ("class_cosine" in before, found) == (False, [pytest.approx(1)])


def test_where_the_class_is_comes_from_the_environment() -> None:
    given = {"REEMBED_MODEL_URI": "u", "REEMBED_MODEL_SHA256": "s", "REEMBED_POOLING": "Mean"}
    given |= {"REEMBED_DIMENSIONS": "16", "REEMBED_MAX_TOKENS": "8", "REEMBED_FINGERPRINT": "fp"}
    assert from_environment(given).model_class is None
    assert from_environment({**given, "REEMBED_CLASS": "/class/probes"}).model_class == Path("/class/probes")
