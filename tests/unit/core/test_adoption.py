"""Vectors that an application has answer before the first migration, and only if they are what their owner says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reembed.core import preflight
from reembed.core.adoption import advanced, pending
from reembed.core.fingerprint import fingerprint
from reembed.core.migration import SeenIndex
from reembed.core.model import (
    Adopted,
    Arm,
    CollectionPlan,
    Desired,
    Holder,
    IndexStatus,
    PointerPlan,
    Problem,
    Routing,
    StorePlan,
)
from reembed.core.names import adopted
from tests import builders as b

MODEL = b.pool("old").spec.model
NEW = replace(
    b.index(),
    spec=replace(b.index().spec, adopted=Adopted("embedding", "old")),
    status=IndexStatus(),
)
NAME = adopted(NEW.meta.uid)
ENTRY = CollectionPlan(NAME, "old", fingerprint(MODEL), MODEL.dimensions, 1, Desired.INDEXED)
PLANNED = replace(NEW, status=IndexStatus(plan=StorePlan((ENTRY,))))
NOTHING = replace(b.store(pointer=None), collections=())
ADOPTED = replace(b.collection("Indexed"), name=NAME, fingerprint=fingerprint(MODEL))
SERVING = IndexStatus(
    routing=Routing(1, Arm("old", NAME, fingerprint(MODEL))),
    plan=StorePlan((ENTRY,), PointerPlan(NAME, fingerprint(MODEL), 1)),
)


def test_the_column_is_planned_first_and_serves_once_the_store_has_found_it_to_be_right() -> None:
    first = advanced(NEW, MODEL, NOTHING)
    second = advanced(PLANNED, MODEL, replace(NOTHING, collections=(ADOPTED,)))
    assert (first, second) == (PLANNED.status, SERVING)


def test_what_is_planned_is_waited_for() -> None:
    assert advanced(PLANNED, MODEL, NOTHING) is None


def test_what_the_store_finds_wrong_with_the_column_is_told() -> None:
    wrong = Problem("AdoptedDimensions", "column embedding holds 1536 dimensions")
    report = replace(ADOPTED, state="Filling", problem=wrong)
    assert advanced(PLANNED, MODEL, replace(NOTHING, collections=(report,))) == wrong


def test_a_pool_that_is_not_there_is_told() -> None:
    found = advanced(NEW, None, NOTHING)
    assert isinstance(found, Problem)
    assert (found.reason, "create it" in found.message) == ("PoolMissing", True)


@pytest.mark.parametrize(
    "index",
    [
        pytest.param(replace(PLANNED, status=SERVING), id="it serves already"),
        pytest.param(replace(NEW, spec=replace(NEW.spec, adopted=None)), id="there is nothing to adopt"),
        pytest.param(replace(NEW, meta=replace(NEW.meta, deleting=True)), id="it is deleted"),
        pytest.param(replace(NEW, status=IndexStatus(Holder("move", "uid"))), id="a migration holds it"),
    ],
)
def test_nothing_is_changed_of_another_index(index: SeenIndex) -> None:
    assert advanced(index, MODEL, NOTHING) is None


def test_a_store_with_a_problem_says_nothing_of_a_column() -> None:
    assert advanced(NEW, MODEL, replace(NOTHING, problem=Problem("StoreUnreachable", ""))) is None


def test_a_migration_waits_for_the_adoption_since_it_would_take_the_index_for_an_empty_one() -> None:
    found = preflight.not_adopted(b.migration(), b.seen(index=PLANNED))
    served = preflight.not_adopted(b.migration(), b.seen(index=replace(PLANNED, status=SERVING)))
    assert found is not None
    assert (found.reason, found.permanent, served) == ("NotAdopted", False, None)


def test_only_what_nothing_serves_yet_is_pending() -> None:
    assert [pending(one) for one in (NEW, PLANNED, replace(NEW, status=SERVING), b.index())] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"fingerprint": "fp-of-before"}, id="the pool was made anew with another model"),
        pytest.param({"state": "Withdrawn"}, id="it was withdrawn"),
    ],
)
def test_what_was_adopted_otherwise_answers_nothing_and_says_so(changes: dict[str, str]) -> None:
    found = advanced(PLANNED, MODEL, replace(NOTHING, collections=(replace(ADOPTED, **changes),)))  # type: ignore[arg-type]
    assert isinstance(found, Problem)
    assert found.reason == "AdoptedOtherwise"
