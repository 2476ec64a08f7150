"""What the rows of a source may do wrong is one list, in Python and in the functions of the schema."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from reembed.stores import pgvector
from reembed.stores.pgvector.rows import OF_ROWS

STEPS = sorted(
    (one for one in resources.files(pgvector).iterdir() if re.fullmatch(r"schema_\d+\.sql", one.name)),
    key=lambda one: one.name,
)
_LIST = re.compile(r"left\(SQLSTATE, 2\)\s+NOT IN \(([^)]*)\)")


def lists(sql: str) -> list[tuple[str, ...]]:
    return [tuple(re.findall(r"'(\w+)'", found)) for found in _LIST.findall(sql)]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_function_that_tells_rows_from_the_rest_does_so_by_the_same_classes(
    step: resources.abc.Traversable,
) -> None:
    assert set(lists(step.read_text())) <= {OF_ROWS}


def test_there_are_such_functions() -> None:
    """Else the test above would compare nothing."""
    assert [len(lists(step.read_text())) for step in STEPS if lists(step.read_text())] == [1, 1]
