"""What the header promises of memory, against real processes; and files whose weights are quantized."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from demo.models import sha256_of
from tests.bench.embedder.machine import watched
from tests.fixtures.embedders import Embedder, eventually, start
from tests.fixtures.models import ModelFile
from tests.fixtures.random_models import Shape, decoder, encoder

_SHAPE = Shape(dimensions=256, inner=1024, vocabulary=30_000)
_MAKERS = {"encoder": encoder, "decoder": decoder}
_POOLING = {"encoder": "Mean", "decoder": "Last"}
_MOST = 1024
_OFTEN = 0.002  # seconds between two looks at memory
_TEXTS = ["the path", "a b c", "then this that other", "long " * 140, "x", "word " * 600]
# In a process of its own: llama.cpp aborts where it cannot go on.
_QUANTIZE = """
import sys
import llama_cpp.llama_cpp as lib
parameters = lib.llama_model_quantize_default_params()
parameters.ftype = getattr(lib, sys.argv[3])
sys.exit(lib.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), parameters))
"""


@pytest.fixture(scope="module", params=sorted(_MAKERS))
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ModelFile]:
    kind = request.param
    return kind, _MAKERS[kind](tmp_path_factory.mktemp(kind) / "model.gguf", shape=_SHAPE)


def _changes(kind: str) -> dict[str, str]:
    return {"POOLING": _POOLING[kind], "DIMENSIONS": str(_SHAPE.dimensions), "MAX_TOKENS": str(_MOST)}


@contextmanager
def _serving(kind: str, file: ModelFile, directory: Path, *, wait: bool = True) -> Iterator[Embedder]:
    directory.mkdir()
    started = start(file, directory, wait=wait, **_changes(kind))
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def test_memory_never_passes_the_plan_from_the_first_moment_on(whole: tuple[str, ModelFile], tmp_path: Path) -> None:
    kind, file = whole
    with (
        _serving(kind, file, tmp_path / "run", wait=False) as embedder,
        watched(embedder.process.pid, _OFTEN) as memory,
    ):
        eventually(embedder.ready, embedder.log.read_text, embedder.process)
        for background in (True, False):
            for page in ([_TEXTS[-1]] * 24, _TEXTS * 20):
                assert embedder.ask(page, background=background).status_code == 200
        # As large as a body may be; one character outside of the first plane makes each of them four bytes.
        assert embedder.ask("word " * 800_000 + "\U0001f600").status_code == 200
        plan = embedder.metric("reembed_embedder_memory_plan_bytes") / (1 << 20)
    assert memory.anonymous <= 1.05 * plan
    assert plan < 1.6 * memory.anonymous


@pytest.mark.parametrize("kind_of_weights", ["Q8_0", "Q6_K", "Q4_K_M"])
def test_quantized_files_give_nearly_the_vectors_of_the_whole_one(
    whole: tuple[str, ModelFile], kind_of_weights: str, tmp_path: Path
) -> None:
    kind, file = whole
    path = tmp_path / "quantized.gguf"
    name = f"LLAMA_FTYPE_MOSTLY_{kind_of_weights}"
    arguments = [sys.executable, "-c", _QUANTIZE, str(file.path), str(path), name]
    subprocess.run(arguments, check=True, capture_output=True, timeout=120)
    with (
        _serving(kind, file, tmp_path / "whole") as as_made,
        _serving(kind, ModelFile(path, sha256_of(path)), tmp_path / "quantized") as quantized,
    ):
        cosines = np.sum(as_made.vectors(_TEXTS) * quantized.vectors(_TEXTS), axis=1)
    assert path.stat().st_size < 0.6 * file.path.stat().st_size
    # Random weights are far more sensitive than trained ones.
    assert cosines.mean() > {"Q8_0": 0.99, "Q6_K": 0.97, "Q4_K_M": 0.85}[kind_of_weights]


def test_a_limit_below_the_plan_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    file = encoder(tmp_path / "model.gguf", shape=_SHAPE)
    embedder = start(file, tmp_path, wait=False, limit=100, **_changes("encoder"))
    with watched(embedder.process.pid, _OFTEN) as memory:
        status, said = embedder.ended()
    assert (status, said["reason"]) == (2, "MemoryInsufficient")
    assert "the container's limit is 100 MiB; nothing was loaded" in said["message"]
    assert memory.anonymous < 100
