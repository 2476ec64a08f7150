"""Conditions say what programs need: every type on every visit, True only for what is certain."""

from __future__ import annotations

import pytest

from reembed.core.conditions import of_index, of_migration, of_pool
from reembed.core.model import IndexStatus, PoolReport, Problem
from reembed.core.transitions import State
from tests import builders as b


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.CANARY, {"Ready": False, "Progressing": True, "Succeeded": None, "Degraded": False, "RolledBack": None}),
        (
            State.SUCCEEDED,
            {"Ready": True, "Progressing": False, "Succeeded": True, "Degraded": False, "RolledBack": False},
        ),
        (
            State.ROLLED_BACK,
            {"Ready": False, "Progressing": False, "Succeeded": False, "Degraded": True, "RolledBack": True},
        ),
        (
            State.FAILED,
            {"Ready": False, "Progressing": False, "Succeeded": False, "Degraded": True, "RolledBack": False},
        ),
    ],
)
def test_a_migration_tells_its_state_in_conditions(state: State, expected: dict[str, bool | None]) -> None:
    found = of_migration(b.migration(state).status)
    assert {one.type: one.status for one in found} == expected


def test_an_index_that_waits_for_its_first_migration_is_ready() -> None:
    found = of_index(IndexStatus(), (2, 2), None)
    assert [(one.type, one.status, one.reason) for one in found] == [
        ("Ready", True, "WaitingForMigration"),
        ("Progressing", False, "Idle"),
        ("Degraded", False, "AsExpected"),
    ]


def test_a_pool_says_why_its_pods_do_not_start() -> None:
    report = PoolReport("fp", 0, 1, None, Problem("ModelNotGGUF", "not a GGUF file"), permanent=True)
    found = of_pool(report, claimed=True)
    assert [(one.type, one.status, one.reason) for one in found] == [
        ("Ready", False, "ModelNotGGUF"),
        ("Progressing", False, "ModelNotGGUF"),
        ("Degraded", True, "ModelNotGGUF"),
    ]


def test_a_pool_that_nobody_uses_is_ready_without_pods() -> None:
    found = of_pool(PoolReport("fp", 0, 0), claimed=False)
    assert [(one.status, one.reason) for one in found[:1]] == [(True, "NotInUse")]
