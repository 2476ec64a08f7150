"""The server's side of the engine: who is let in, who is suspected, and how it ends where no process can be started."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import NoReturn

import pytest

from reembed.core.model import Model, Pooling
from reembed.embedder.failures import EngineBusy
from reembed.embedder.limits import normal
from reembed.embedder.link import Link
from reembed.embedder.messages import Request, Start
from reembed.embedder.process import Engine, _refusal
from reembed.embedder.text_cache import TextCache

pytestmark = pytest.mark.looptime

_MODEL = Model("http://models/a.gguf", "0" * 64, Pooling.MEAN, 2, 2048)
_LONG = "a" * 100_000


def _engine() -> Engine:
    start = Start(Path("/models/a.gguf"), _MODEL, cpus=1, capacities=(256, 2048))
    return Engine(start, normal(_MODEL, 1), TextCache("fp", 0))


async def test_a_background_request_above_the_whole_bound_leaves_room_for_live_ones() -> None:
    engine = _engine()
    page = [_LONG] * 256
    engine._count_in(engine._admit(page, background=True), background=True)
    assert engine.tokens == 256 * 2048
    for _ in range(15):
        engine._count_in(engine._admit([_LONG], background=False), background=False)
    with pytest.raises(EngineBusy, match="about 63488 tokens wait, 4096 more pass the limit of 65536"):
        engine._admit([_LONG] * 2, background=False)
    with pytest.raises(EngineBusy):
        engine._admit(["a"], background=True)


async def test_a_text_whose_caller_went_before_it_ended_the_engine_is_suspected() -> None:
    engine = _engine()
    engine._board.write(1, 0.0, 10, [(7, 1)])
    engine._remember(Request(7, ("a", "b"), background=False))
    engine._remember(Request(8, ("c",), background=False))  # it was not computed yet
    engine._suspect(-signal.SIGSEGV)
    assert [engine._suspects.suspicious([text]) for text in "abc"] == [False, True, False]


async def test_where_no_process_can_be_started_it_is_tried_again_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> NoReturn:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(Link, "open", fails)
    engine = _engine()
    engine.start()
    refusal = await asyncio.wait_for(engine.failed, 60)
    await engine.close()
    assert (refusal.reason, "ended 3 times while it loaded the model (status 127)" in str(refusal)) == (
        "ModelUnavailable",
        True,
    )


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        pytest.param(-signal.SIGKILL, "ModelUnavailable", "most likely for want of memory", id="killed"),
        pytest.param(-signal.SIGBUS, "ModelUnavailable", "its file cannot be read any more", id="disk"),
        pytest.param(-signal.SIGILL, "ModelUnavailable", "this node's CPU lacks", id="CPU"),
        pytest.param(1, "ModelUnavailable", "its own words are in the pod's log", id="Python"),
        pytest.param(-signal.SIGABRT, "ModelArchitectureUnsupported", "tensors are not what llama.cpp", id="file"),
    ],
)
def test_only_what_llama_cpp_gave_up_for_is_the_files_fault_for_good(status: int, reason: str, words: str) -> None:
    refusal = _refusal(status, 3)
    assert (refusal.reason, words in str(refusal)) == (reason, True)
