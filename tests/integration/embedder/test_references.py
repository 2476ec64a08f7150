"""A pool's references in a real process: the same model passes, another one is not ready."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fixtures.embedders import Embedder, Start

TEXTS = [
    f"how is a {thing} made of {stuff}" for thing in ("boat", "table", "roof") for stuff in ("wood", "iron", "straw")
]


def written(path: Path, texts: Sequence[str], vectors: Any, **more: str) -> str:
    rows = [{"text": text, "vector": vector.tolist(), **more} for text, vector in zip(texts, vectors, strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def of(pool: Embedder, path: Path) -> str:
    """Return a file of references that a pool made."""
    return written(path, TEXTS, pool.vectors(TEXTS))


def test_a_model_that_made_its_references_is_ready_and_tells_how_near_it_is(embedder: Start, tmp_path: Path) -> None:
    found = embedder(REFERENCES=of(embedder(), tmp_path / "references"))
    name = "reembed_embedder_validation"
    assert found.metric(f"{name}_cosine_min") > 0.9999
    assert found.metric(f"{name}_cosine_mean") > 0.9999
    assert found.metric(f"{name}_accuracy") == 1
    assert found.metric("reembed_embedder_probe_tokens_per_second") > 0


def test_a_model_that_reads_with_another_prefix_is_not_ready(embedder: Start, tmp_path: Path) -> None:
    references = of(embedder(), tmp_path / "references")
    status, words = embedder(wait=False, REFERENCES=references, DOCUMENT_PREFIX="title: none | text: ").ended()
    assert (status, words["reason"]) == (2, "ModelValidationFailed")
    assert "9 of 9 texts have a vector with a cosine below 0.999" in words["message"]


def test_what_is_near_enough_is_the_pool_s_word(embedder: Start, tmp_path: Path) -> None:
    references = of(embedder(), tmp_path / "references")
    found = embedder(REFERENCES=references, DOCUMENT_PREFIX="text: ", MIN_COSINE="0.5")
    assert 0.5 < found.metric("reembed_embedder_validation_cosine_min") < 0.999


def test_queries_have_references_of_their_own(embedder: Start, tmp_path: Path) -> None:
    vectors = embedder().vectors([f"query: {text}" for text in TEXTS])
    references = written(tmp_path / "references", TEXTS, vectors, inputType="Query")
    assert embedder(REFERENCES=references, QUERY_PREFIX="query: ").ready()


def test_references_that_are_missing_are_waited_for_by_starting_again(embedder: Start, tmp_path: Path) -> None:
    status, words = embedder(wait=False, REFERENCES=str(tmp_path / "none")).ended()
    assert (status, words["reason"]) == (3, "ModelReferencesMissing")


def test_references_of_another_length_are_refused_before_anything_is_compared(embedder: Start, tmp_path: Path) -> None:
    references = written(tmp_path / "references", TEXTS[:1], embedder().vectors(TEXTS[:1])[:, :100])
    status, words = embedder(wait=False, REFERENCES=references).ended()
    assert (status, words["reason"]) == (2, "ModelValidationFailed")
    assert "line 1 of the references of spec.validation has a vector of 100 dimensions" in words["message"]
