"""An index is built with the memory that the server can be taken to have, and its progress is told in vectors."""

from __future__ import annotations

import pytest

from reembed.core.model import BuildReport
from reembed.stores.pgvector.indexes import memory, progress
from reembed.stores.pgvector.recall import hits

MIB = 1 << 20
GIB = 1 << 30


@pytest.mark.parametrize(
    ("needed", "configured", "source", "shared_buffers", "given"),
    [
        pytest.param(3 * GIB, 64 * MIB, "default", 4 * GIB, 3 * GIB, id="what is needed fits"),
        pytest.param(9 * GIB, 64 * MIB, "default", 4 * GIB, 4 * GIB, id="a tuned server's quarter of memory"),
        pytest.param(99 * GIB, 64 * MIB, "default", 64 * GIB, 8 * GIB, id="never more than 8 GiB unasked"),
        pytest.param(9 * GIB, 64 * MIB, "default", 128 * MIB, 256 * MIB, id="nobody tuned the server"),
        pytest.param(9 * GIB, 64 * MIB, "default", 16 * MIB, 64 * MIB, id="a tiny server"),
        pytest.param(MIB, 64 * MIB, "default", 4 * GIB, 64 * MIB, id="a small index"),
        pytest.param(9 * GIB, 2 * GIB, "configuration file", 4 * GIB, 2 * GIB, id="the administrator's ceiling"),
        pytest.param(9 * GIB, 12 * GIB, "user", 4 * GIB, 9 * GIB, id="an administrator who gives more"),
        pytest.param(MIB, 32 * MIB, "database", 4 * GIB, 32 * MIB, id="a ceiling below our least"),
    ],
)
def test_an_index_is_built_with_the_memory_that_the_server_has(
    needed: int, configured: int, source: str, shared_buffers: int, given: int
) -> None:
    assert memory(needed, configured, source, shared_buffers) == given


@pytest.mark.parametrize(
    ("blocks", "of", "tuples", "done"),
    [
        pytest.param(0, 0, 0, 0, id="nothing yet"),
        pytest.param(43, 100, 0, 430, id="pages that were read"),
        pytest.param(43, 100, 500, 500, id="vectors that were counted"),
        pytest.param(120, 100, 2000, 1000, id="more than there were when it began"),
    ],
)
def test_progress_is_told_in_vectors(blocks: int, of: int, tuples: int, done: int) -> None:
    assert progress("loading tuples", 1000, blocks, of, tuples) == BuildReport("loading tuples", done, 1000)


@pytest.mark.parametrize(
    ("near", "exact", "found"),
    [
        pytest.param([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], 3, id="all"),
        pytest.param([0.1, 0.4], [0.1, 0.2, 0.3], 1, id="one, and one that is farther"),
        pytest.param([0.2, 0.2, 0.2, 0.2], [0.2, 0.2], 2, id="equal ones stand for each other"),
        pytest.param([], [0.1], 0, id="nothing"),
        pytest.param([], [], 0, id="nothing to find"),
        pytest.param([-3.0, -1.0], [-3.0, -2.0], 1, id="inner products are negative"),
    ],
)
def test_an_answer_counts_if_it_is_as_near_as_the_exact_ones(near: list[float], exact: list[float], found: int) -> None:
    assert hits(near, exact) == found
