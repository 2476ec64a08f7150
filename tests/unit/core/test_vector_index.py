"""While an index is built its progress is told, and one that finds too little lets nothing pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reembed.core.decide import decide
from reembed.core.model import BuildReport, CollectionReport, VectorIndex
from reembed.core.transitions import State
from tests import builders as b

INDEXING = b.migration(State.INDEXING)


def indexing(report: CollectionReport, min_recall: float = 0.9) -> tuple[State, str, str]:
    index = b.index(candidate=None)
    index = replace(index, spec=replace(index.spec, vector_index=VectorIndex(min_recall=min_recall)))
    status = decide(INDEXING, b.seen(index, store=b.store(report)), b.NOON).status
    return status.state, status.reason, status.message


def test_an_index_that_is_built_says_how_far_it_is() -> None:
    build = BuildReport("building index: loading tuples", 430_001, 1_000_000)
    assert indexing(b.collection("Filled", building=build)) == (
        State.INDEXING,
        "BuildingIndex",
        "building the vector index: 43 % of 1,000,000 vectors",
    )


def test_a_worker_that_tells_no_progress_is_believed_to_build() -> None:
    _, reason, message = indexing(b.collection("Filled"))
    assert (reason, message) == ("BuildingIndex", "building the vector index over 1000 documents")


def test_an_index_that_finds_too_little_lets_nothing_pass() -> None:
    state, reason, message = indexing(b.collection(recall=0.8431))
    assert (state, reason) == (State.INDEXING, "IndexRecallLow")
    assert message == (
        f"the vector index of {b.NEW.collection} finds 84.3% of the 10 nearest vectors, below 90.0%; it answers "
        "nothing. Raise spec.vectorIndex of EmbeddingIndex 'docs', which has m 16 and efConstruction 64, and it is "
        "built again; or lower minRecall there"
    )


@pytest.mark.parametrize(
    ("recall", "limit"),
    [
        pytest.param(0.9, 0.9, id="just enough"),
        pytest.param(0.5, 0.5, id="enough for its owner"),
        pytest.param(0.1, 0.0, id="nothing is asked for"),
        pytest.param(None, 0.9, id="a worker of before, or nothing to compare"),
    ],
)
def test_an_index_that_finds_enough_passes(recall: float | None, limit: float) -> None:
    assert indexing(b.collection(recall=recall), limit)[0] is State.EVALUATING
