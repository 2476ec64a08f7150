"""What the CPU's tiles compute is what llama.cpp computes: every shape of a call, encoders and decoders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
import numpy.typing as npt
import pytest

from reembed.core.model import Pooling
from reembed.embedder import tiles
from reembed.embedder.weights import cpu_flags
from tests.fixtures import random_models
from tests.fixtures.embedders import Start
from tests.fixtures.models import ModelFile

_LIBRARY = tiles.library(cpu_flags())
pytestmark = pytest.mark.skipif(_LIBRARY is None, reason="this CPU has no AMX")

# Tokens of each text of a call: alone and together, around the sizes of tiles and blocks, in one piece and in several.
_CALLS = ([1], [7, 7, 7], [15, 16, 17], [20] * 12, [31, 32, 33], [64, 64], [250], [256, 255], [500])
# Wider than a block of attention, narrower heads than keys of a tile are many, more queries' heads than keys'.
_SHAPE = random_models.Shape(dimensions=256, layers=3, heads=4, inner=512, vocabulary=3000)
_MODELS = {"encoder": (random_models.encoder, Pooling.MEAN), "decoder": (random_models.decoder, Pooling.LAST)}

# A process of its own: the library cannot be taken out of one again.
_EMBED = """
import json, sys
from pathlib import Path
import numpy as np
from reembed.core.model import Model, Pooling
from reembed.embedder import tiles
from reembed.embedder.llama import Context, Weights

path, library, pooling, calls, target = json.loads(sys.argv[1])
assert library is None or tiles.use(Path(library))
weights = Weights(Path(path), Model("", "", Pooling(pooling), 256, 512))
context = Context(weights, 512, 512 if pooling == "Mean" else 128)
found = []
for lengths in calls:
    random = np.random.default_rng(sum(lengths))
    found.append(context.embed([random.integers(40, 90, length).astype(np.int32) for length in lengths]))
np.save(target, np.concatenate(found))
"""


def _embedded(path: Path, library: Path | None, pooling: Pooling) -> npt.NDArray[np.float32]:
    target = path.with_suffix(f".{library is not None}.npy")
    wish = [str(path), str(library) if library is not None else None, pooling.value, _CALLS, str(target)]
    subprocess.run([sys.executable, "-c", _EMBED, json.dumps(wish)], check=True)
    found: npt.NDArray[np.float32] = np.load(target)
    return found


def _quantized(source: ModelFile, kind: int) -> Path:
    target = source.path.with_suffix(f".{kind}.gguf")
    parameters = lib.llama_model_quantize_default_params()
    parameters.ftype = kind
    assert lib.llama_model_quantize(str(source.path).encode(), str(target).encode(), parameters) == 0
    return target


@pytest.mark.parametrize("kind", [lib.LLAMA_FTYPE_MOSTLY_BF16, lib.LLAMA_FTYPE_MOSTLY_F16, lib.LLAMA_FTYPE_MOSTLY_Q8_0])
@pytest.mark.parametrize("name", _MODELS)
def test_vectors_are_those_that_llama_cpp_computes_alone(
    name: str, kind: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Weights as small as trained ones: with larger ones each rounding is a random step.
    monkeypatch.setattr(random_models, "SPREAD", 0.02)
    make, pooling = _MODELS[name]
    path = _quantized(
        make(tmp_path / f"{name}.gguf", random_models.gguf.PoolingType[pooling.value.upper()], _SHAPE), kind
    )
    plain, tiled = _embedded(path, None, pooling), _embedded(path, _LIBRARY, pooling)
    assert np.isfinite(tiled).all()
    assert np.sum(plain * tiled, axis=1).min() > 0.9999


def test_what_is_no_number_for_llama_cpp_alone_is_none_by_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = random_models._random

    def overflowing(*arguments: Any) -> dict[str, npt.NDArray[np.float32]]:
        tensors = make(*arguments)
        tensors["blk.1.attn_k.bias"] *= 1e9  # halves, as keys are kept, end at 65,504
        return tensors

    monkeypatch.setattr(random_models, "_random", overflowing)
    path = random_models.decoder(tmp_path / "decoder.gguf", shape=_SHAPE).path
    assert np.isnan(_embedded(path, None, Pooling.LAST)).all()
    assert np.isnan(_embedded(path, _LIBRARY, Pooling.LAST)).all()


def test_a_pod_measures_tiles_and_computes_with_them(embedder: Start) -> None:
    plain, tiled = embedder(), embedder(WEIGHTS="Auto")
    texts = ["a query", "some words of a document " * 40]
    used = tiled.metric("reembed_embedder_weights_speed_ratio") >= 1.05
    assert tiled.metric("reembed_embedder_tiles") == float(used)
    assert np.sum(plain.vectors(texts) * tiled.vectors(texts), axis=1).min() > 0.999
