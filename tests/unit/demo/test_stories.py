"""Things go wrong in the middle of a state, where something can be lost, not at its edge."""

from typing import Any

import pytest

from demo.stories import well_into


@pytest.mark.parametrize(
    ("status", "state", "weight", "expected"),
    [
        pytest.param({}, "Backfilling", 1, False, id="before the migration was looked at"),
        pytest.param({"state": "Backfilling"}, "Backfilling", 1, False, id="before a document was written"),
        pytest.param({"state": "Backfilling", "backfill": {"documents": 1}}, "Backfilling", 1, True, id="filling"),
        pytest.param({"state": "Canary", "weight": {"set": 10}}, "Canary", 1, False, id="before a gateway follows"),
        pytest.param({"state": "Canary", "weight": {"set": 50, "actual": 10}}, "Canary", 50, False, id="below it"),
        pytest.param({"state": "Canary", "weight": {"set": 50, "actual": 50}}, "Canary", 50, True, id="at it"),
        pytest.param({"state": "Indexing"}, "Indexing", 1, True, id="a state without a measure"),
    ],
)
def test_well_into_a_state(status: dict[str, Any], state: str, weight: int, expected: bool) -> None:
    assert well_into(status, state, weight) is expected
