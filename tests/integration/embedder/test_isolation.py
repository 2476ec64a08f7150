"""A text that ends the engine whenever it is computed is found and refused, and no other text pays for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.fixtures.embedders import Embedder, eventually, start
from tests.fixtures.random_models import DIMENSIONS, decoder

# Attention over so many tokens takes seconds even in a model of two layers.
_POISON = "a b " * 8_000
_BYSTANDER = "c d " * 4_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Embedder]:
    model = decoder(tmp_path / "model.gguf")
    started = start(model, tmp_path, POOLING="Last", DIMENSIONS=str(DIMENSIONS), MAX_TOKENS="16384")
    yield started
    started.process.kill()
    started.process.wait()


def _crash_while(server: Embedder, poison: str, *others: str) -> list[httpx.Response]:
    """End the engine as a failed assertion would while it computes a text and others wait; return the answers."""
    restarts = server.metric("reembed_embedder_child_restarts_total")
    with ThreadPoolExecutor(1 + len(others)) as pool:
        asked = [pool.submit(server.ask, poison)]
        # Only one context reads such long texts: whichever comes first is computed.
        eventually(lambda: server.metric("reembed_embedder_contexts_busy") > 0)
        asked += [pool.submit(server.ask, text) for text in others]
        os.kill(server.child(), signal.SIGABRT)
        answers = [one.result() for one in asked]
    eventually(lambda: server.metric("reembed_embedder_child_restarts_total") > restarts)
    eventually(server.ready)
    return answers


def test_the_text_that_ends_the_engine_again_on_its_own_is_refused(server: Embedder) -> None:
    first = _crash_while(server, _POISON, _BYSTANDER)
    assert {answer.status_code for answer in first} == {503}
    assert {answer.headers["Retry-After"] for answer in first} == {"1"}
    assert server.ask(_BYSTANDER).status_code == 200
    second = _crash_while(server, _POISON)
    third = server.ask(["a", _POISON])
    assert ([answer.status_code for answer in second], third.status_code) == ([503], 422)
    assert third.json()["error"]["message"] == (
        "text 1 ended the engine twice, the second time on its own; leave it out"
    )
    assert (third.json()["index"], server.ask(["a", _BYSTANDER]).status_code) == (1, 200)


def test_a_killed_engine_accuses_no_text(server: Embedder) -> None:
    for _ in range(2):
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(server.ask, _POISON)
            eventually(lambda: server.metric("reembed_embedder_contexts_busy") > 0)
            os.kill(server.child(), signal.SIGKILL)
            assert asked.result().status_code == 503
        eventually(server.ready)
    assert server.ask(_POISON).status_code == 200
