"""Vectors reach PostgreSQL as it writes and receives them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from reembed.core.model import Metric, Problem
from reembed.stores.pgvector.binary import array, vector_array
from reembed.stores.pgvector.search import binary, literal
from reembed.stores.pgvector.tables import operator_class, vector_type
from reembed.stores.protocol import Unfit


def test_a_literal_gives_every_float32_back() -> None:
    numbers = np.random.default_rng(3).standard_normal(500).astype("<f4")
    assert np.array_equal(np.array(literal(numbers.tobytes()).strip("[]").split(","), "<f4"), numbers)


def test_a_vector_is_postgresqls_binary_format() -> None:
    assert binary(np.array([1, -0.5], "<f4").tobytes()) == struct.pack(">hhff", 2, 0, 1, -0.5)


def test_a_vector_array_is_postgresqls_binary_format() -> None:
    one, two = np.array([1, -2], "<f4").tobytes(), np.array([0.5, 0], "<f4").tobytes()
    header = struct.pack(">5i", 1, 0, 4711, 2, 1)
    rows = struct.pack(">ihhff", 12, 2, 0, 1, -2) + struct.pack(">ihhff", 12, 2, 0, 0.5, 0)
    assert vector_array([one, two], 2, 4711) == header + rows


def test_an_array_of_bytes_is_postgresqls_binary_format() -> None:
    values = [b"one", b"", "zwölf".encode()]
    header = struct.pack(">5i", 1, 0, 25, 3, 1)
    assert array(values, 25) == header + b"".join([struct.pack(">i", len(one)) + one for one in values])
    assert array([], 25) == struct.pack(">3i", 0, 0, 25)


def test_an_array_without_vectors_has_no_dimension() -> None:
    assert vector_array([], 2, 4711) == struct.pack(">3i", 0, 0, 4711)


@pytest.mark.parametrize(
    ("dimensions", "expected"), [(1, "vector"), (2000, "vector"), (2001, "halfvec"), (4000, "halfvec")]
)
def test_the_type_that_can_be_indexed_is_chosen(dimensions: int, expected: str) -> None:
    assert vector_type(dimensions) == expected


def test_dimensions_that_no_index_holds_are_refused() -> None:
    with pytest.raises(Unfit) as caught:
        vector_type(4001)
    assert caught.value.problem == Problem("DimensionsTooLarge", str(caught.value))


@pytest.mark.parametrize(
    ("kind", "metric", "expected"),
    [
        ("vector", Metric.COSINE, "vector_cosine_ops"),
        ("vector", Metric.INNER_PRODUCT, "vector_ip_ops"),
        ("halfvec", Metric.EUCLIDEAN, "halfvec_l2_ops"),
    ],
)
def test_a_metric_has_its_operator_class(kind: str, metric: Metric, expected: str) -> None:
    assert operator_class(kind, metric.value) == expected
