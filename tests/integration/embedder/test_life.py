"""A process's life: refusals with their last words, a download in the background, a crash under load, the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import httpx
import numpy as np
import pytest

from demo.models import sha256_of
from tests.fixtures.embedders import FINGERPRINT, Embedder, Start, eventually, standing_still
from tests.fixtures.file_server import FileServer
from tests.fixtures.models import SMALL, ModelFile

_PAGE = [f"{number} words of a document that is being embedded " * 4 for number in range(256)]


def _zip(path: Path) -> str:
    path.write_bytes(b"PK\3\4")
    return path.as_uri()


def _of_no_tensors(path: Path) -> str:
    """Write a file whose header is right and which holds no model."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(512)
    writer.add_embedding_length(384)
    writer.add_tensor("none", np.zeros(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.as_uri()


@pytest.mark.parametrize(
    ("changes", "status", "reason", "words"),
    [
        pytest.param({"MODEL_SHA256": "0" * 64}, 2, "ModelChecksumMismatch", "the pool expects 0000", id="sum"),
        pytest.param(
            {"DIMENSIONS": "768"}, 2, "ModelDimensionsMismatch", "384 dimensions, the pool says 768", id="size"
        ),
        pytest.param({"MODEL_URI": _zip}, 2, "ModelNotGGUF", "begins with b'PK\\x03\\x04'", id="format"),
        pytest.param(
            {"MODEL_URI": "file:///none.gguf"}, 3, "ModelUnavailable", "there is no file /none.gguf", id="none"
        ),
    ],
)
def test_a_model_that_cannot_be_served_ends_the_process_with_its_reason(
    embedder: Start,
    tmp_path: Path,
    changes: dict[str, str | Callable[[Path], str]],
    status: int,
    reason: str,
    words: str,
) -> None:
    made = {name: value if isinstance(value, str) else value(tmp_path / "other") for name, value in changes.items()}
    ended, said = embedder(wait=False, **made).ended()
    assert (ended, said.get("reason"), words in said.get("message", "")) == (status, reason, True), said


def test_a_file_that_llama_cpp_cannot_load_is_refused_for_good(embedder: Start, tmp_path: Path) -> None:
    uri = _of_no_tensors(tmp_path / "model.gguf")
    sha256 = sha256_of(tmp_path / "model.gguf")
    status, said = embedder(wait=False, MODEL_URI=uri, MODEL_SHA256=sha256).ended()
    assert (status, said["reason"]) == (2, "ModelArchitectureUnsupported")
    assert said["message"].startswith("llama.cpp can't load model.gguf")


def test_while_the_model_is_fetched_the_process_lives_but_is_not_ready(
    embedder: Start, models: dict[str, ModelFile], file_server: FileServer
) -> None:
    file_server.statuses = [503] * 3
    file_server.data = models[SMALL].path.read_bytes()
    server = embedder(wait=False, MODEL_URI=file_server.url)
    eventually(lambda: file_server.asked != [], server.log.read_text)
    early = server.ask("hello")
    assert (server.get("/health").status_code, server.get("/ready").status_code) == (200, 503)
    assert (early.status_code, early.headers["Retry-After"]) == (503, "1")
    eventually(server.ready, server.log.read_text, server.process)
    assert server.ask("hello").status_code == 200


def test_a_killed_engine_costs_at_most_503_and_comes_back(embedder: Start) -> None:
    server = embedder()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(server.ask, _PAGE[:32]) for _ in range(16)]
        eventually(lambda: server.metric("reembed_embedder_queue_tokens") > 0)
        os.kill(server.child(), signal.SIGKILL)
        answers = [one.result() for one in asked]
    codes = {one.status_code for one in answers}
    assert 503 in codes
    assert codes <= {200, 503}
    # Whoever comes again comes by another connection, which may lead to another pod.
    said = {(one.headers["Retry-After"], one.headers["Connection"]) for one in answers if one.status_code == 503}
    assert said == {("1", "close")}
    eventually(server.ready)
    assert (server.ask("hello").status_code, server.metric("reembed_embedder_child_restarts_total")) == (200, 1)


def test_an_engine_that_never_gets_ready_ends_the_process(embedder: Start) -> None:
    server = embedder(wait=False)
    for _ in range(3):
        eventually(lambda: _has_child(server), server.log.read_text, server.process)
        os.kill(server.child(), signal.SIGKILL)
        eventually(lambda: not _has_child(server))
    status, said = server.ended()
    assert (status, said["reason"]) == (3, "ModelUnavailable")
    assert "killed 3 times while it loaded the model, most likely for want of memory" in said["message"]


def _has_child(server: Embedder) -> bool:
    try:
        return server.child() > 0
    except (ValueError, OSError):
        return False


def test_a_full_queue_sheds_background_first(embedder: Start) -> None:
    server = embedder()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(server.ask, _PAGE, background=True) for _ in range(4)]
        eventually(lambda: any(one.done() for one in asked))
        live = server.ask("a query meanwhile")
        answers = [one.result() for one in asked]
    busy = [answer for answer in answers if answer.status_code == 429]
    assert live.status_code == 200
    assert {answer.status_code for answer in answers} == {200, 429}
    assert {(answer.headers["Retry-After"], answer.json()["error"]["type"]) for answer in busy} == {("1", "busy")}


def test_a_caller_who_leaves_takes_its_texts_along(embedder: Start) -> None:
    server = embedder()
    with standing_still(server.child()), pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/embeddings", json={"input": _PAGE}, timeout=0.5)
    eventually(lambda: server.metric("reembed_embedder_queue_tokens") == 0)
    assert server.ask("hello").elapsed.total_seconds() < 5


def test_on_sigterm_it_is_unready_at_once_still_answers_and_exits_0(embedder: Start) -> None:
    server = embedder()
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: not server.ready())
    answer = server.ask("a caller who has not heard of it")
    assert (answer.status_code, answer.json()["fingerprint"], answer.headers["Connection"]) == (
        200,
        FINGERPRINT,
        "close",
    )
    assert server.process.wait(30) == 0


def test_its_log_is_json_lines_and_quiet(embedder: Start) -> None:
    server = embedder()
    server.ask("hello")
    assert server.stop() == 0
    lines = server.log.read_text().splitlines()
    assert all(line.startswith("{") for line in lines)
    assert len(lines) < 15
