"""What a GPU variant's pod does, with a build of llama.cpp that has no GPU: all but the offloading itself."""

from __future__ import annotations

import numpy as np

from tests.fixtures.embedders import Embedder, Start

_TEXTS = [f"{number} words of a document that is being embedded " * (number % 7 + 1) for number in range(40)]


def _series(server: Embedder, name: str) -> float:
    return server.metric(f"reembed_embedder_{name}")


def test_a_gpu_computes_all_texts_in_few_large_calls_of_one_context(embedder: Start) -> None:
    cpu, gpu = embedder(), embedder(DEVICE="GPU")
    cosines = np.sum(cpu.vectors(_TEXTS) * gpu.vectors(_TEXTS), axis=1)
    assert cosines.min() >= 0.999
    assert (_series(gpu, "contexts_peak"), _series(gpu, "offloads")) == (1, 0)
    assert _series(gpu, "packs_total") < _series(cpu, "packs_total")


def test_a_pod_that_should_use_a_gpu_and_cannot_says_so(embedder: Start) -> None:
    server = embedder(DEVICE="GPU")
    assert "this build of llama.cpp uses no GPU, or finds none: everything is computed by the CPU" in (
        server.log.read_text()
    )
