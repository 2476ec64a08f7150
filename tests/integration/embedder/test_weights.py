"""Weights in the type that this CPU multiplies fastest: measured, served, told, and of the same vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reembed.embedder import weights
from tests.fixtures.embedders import Embedder, Start

_TEXTS = ["a query", "def f(x):\n    return x", "some words of a document that is being embedded " * 20]


def _type(server: Embedder) -> str:
    lines = server.get("/metrics").text.splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("reembed_embedder_weights{"))


@pytest.mark.skipif("bf16" not in weights._cpu(), reason="this CPU does not multiply BF16 in hardware")
def test_a_pod_measures_both_types_and_serves_the_faster_with_vectors_of_the_same_space(
    embedder: Start, tmp_path: Path
) -> None:
    as_file, measured = embedder(), embedder(WEIGHTS="Auto")
    cosines = np.sum(as_file.vectors(_TEXTS) * measured.vectors(_TEXTS), axis=1)
    (record,) = (tmp_path / "1").glob("*.bf16.json")
    found = json.loads(record.read_text())
    faster = found["ratio"] >= 1.05
    assert cosines.min() >= 0.999
    assert found["cosine"] >= 0.999
    assert measured.metric("reembed_embedder_weights_speed_ratio") == found["ratio"]
    assert (_type(as_file), _type(measured)) == ("F16", "BF16" if faster else "F16")


def test_the_second_start_uses_what_the_first_found(embedder: Start, tmp_path: Path) -> None:
    shared = {"WEIGHTS": "Auto", "CACHE_DIR": str(tmp_path)}
    first = embedder(**shared)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.bf16.*")}
    second = embedder(**shared)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.bf16.*")}
    assert (_type(first), before) == (_type(second), after)
