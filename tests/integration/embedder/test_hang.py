"""An engine that stops computing without dying is ended, its callers are told, and its text is under suspicion."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reembed.core.model import Model, Pooling
from reembed.embedder.failures import EngineUnavailable
from reembed.embedder.limits import normal
from reembed.embedder.messages import Start
from reembed.embedder.process import Engine, Patience
from reembed.embedder.text_cache import TextCache
from tests.fixtures.embedders import eventually
from tests.fixtures.random_models import DIMENSIONS, decoder

_LONG = "a b " * 8_000


async def _until(engine: Engine, *, busy: bool = False) -> None:
    await asyncio.to_thread(eventually, lambda: engine.ready and (engine.contexts_busy > 0) == busy)


def _newest_child() -> int:
    return int(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()[-1])


@asynccontextmanager
async def _running(directory: Path) -> AsyncIterator[Engine]:
    file = decoder(directory / "model.gguf")
    model = Model(file.path.as_uri(), file.sha256, Pooling.LAST, DIMENSIONS, 16_384)
    patience = Patience(seconds=1.0, seconds_per_token=0.0001, look_every=0.1)
    start = Start(file.path, model, cpus=1, capacities=(256, 16_384))
    engine = Engine(start, normal(model, 1), TextCache("fp", 0), patience)
    engine.start()
    try:
        await _until(engine)
        yield engine
    finally:
        await engine.close()


async def test_a_hung_engine_is_ended_and_another_answers(tmp_path: Path) -> None:
    async with _running(tmp_path) as engine:
        child = _newest_child()
        asked = asyncio.create_task(engine.embed([_LONG], background=False))
        await _until(engine, busy=True)
        os.kill(child, signal.SIGSTOP)
        with pytest.raises(EngineUnavailable, match="the engine stopped; another is started, try again"):
            await asked
        await _until(engine)
        answer = await engine.embed(["a"], background=False)
        assert (engine.restarts, len(answer.vectors), engine._suspects.suspicious([_LONG])) == (1, 4 * DIMENSIONS, True)


async def test_a_text_is_suspected_although_its_caller_had_less_patience(tmp_path: Path) -> None:
    async with _running(tmp_path) as engine:
        child = _newest_child()
        asked = asyncio.create_task(engine.embed([_LONG], background=False))
        await _until(engine, busy=True)
        os.kill(child, signal.SIGSTOP)
        asked.cancel()
        await asyncio.to_thread(eventually, lambda: engine.restarts == 1)
        assert (engine._suspects.suspicious([_LONG]), engine.tokens) == (True, 0)


async def test_an_engine_that_takes_nothing_at_all_is_ended(tmp_path: Path) -> None:
    async with _running(tmp_path) as engine:
        os.kill(_newest_child(), signal.SIGSTOP)
        with pytest.raises(EngineUnavailable):
            await asyncio.wait_for(engine.embed(["a"], background=False), 30)
        await _until(engine)
        await engine.embed(["a"], background=False)
        assert engine.restarts == 1


async def test_a_server_that_stood_still_itself_does_not_blame_its_engine(tmp_path: Path) -> None:
    async with _running(tmp_path) as engine:
        threading.Event().wait(1.5)  # as a frozen container does: longer than its patience
        await engine.embed(["a"], background=False)
        assert engine.restarts == 0
