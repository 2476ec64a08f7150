"""What cannot be read is an error that names the field, what was found and what was expected."""

from __future__ import annotations

from typing import Any

import pytest

from reembed.api import (
    InvalidField,
    parse_gateway_report,
    parse_migration,
    parse_migration_status,
    parse_store_report,
)
from tests.unit.api.complete import MIGRATIONS
from tests.unit.api.schemas import put

STATE = {"state": "Sleeping"}
STATES = (
    "one of Preflight, Backfilling, Indexing, Evaluating, Canary, Retaining, Promoting, RollingBack, Unwinding, "
    "Succeeded, RolledBack, Failed, Gone"
)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "spec.canary.steps[].hold",
            "soon",
            "spec.canary.steps[0].hold is 'soon', expected a duration such as 90s, 5m or 1h30m",
        ),
        ("spec.backfill.rejectedLimit", "1", "spec.backfill.rejectedLimit is '1', expected a share from 0% to 100%"),
        (
            "spec.rollback.triggers.latency.threshold",
            "tenx",
            "spec.rollback.triggers.latency.threshold is 'tenx', expected a factor such as 10x",
        ),
        (
            "spec.rollback.triggers.memory.noData",
            "Ignore",
            "spec.rollback.triggers.memory.noData is 'Ignore', expected one of Hold, RollBack",
        ),
        ("spec.canary.steps", [5], "spec.canary.steps[0] is 5, expected an object"),
        ("spec.indexRef", {}, "spec.indexRef.name is None, expected a string"),
    ],
)
def test_an_invalid_field_is_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse_migration(put(MIGRATIONS[0], path, value))
    assert str(caught.value) == message


def test_a_state_of_another_version_is_an_error_and_no_fresh_start() -> None:
    with pytest.raises(InvalidField) as caught:
        parse_migration_status({"status": STATE})
    assert str(caught.value) == f"status.state is 'Sleeping', expected {STATES}"


@pytest.mark.parametrize("report", [[], "ok", None, {"problem": 5}, {"pointer": []}, {"collections": ["c_1"]}])
def test_a_store_report_of_another_form_is_an_error(report: Any) -> None:
    with pytest.raises(InvalidField):
        parse_store_report(report)


@pytest.mark.parametrize("report", [[], {}, {"epoch": 1}, {"epoch": 1, "weight": True}, {"epoch": 1.5, "weight": 0}])
def test_a_gateway_report_of_another_form_is_an_error(report: Any) -> None:
    with pytest.raises(InvalidField):
        parse_gateway_report(report, "pod")
