"""When an index is inspected: once for each command, and before a migration moves away from what serves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core.conditions import Condition
from reembed.core.inspection import of_attempt
from reembed.core.inspection_orders import Answer, Order, answer, condition, due
from reembed.core.migration import Migration, SeenIndex
from reembed.core.model import (
    AskedInspection,
    Finding,
    InspectionReport,
    JobReport,
    Problem,
    Reproduced,
    Routing,
    StoreReport,
)
from reembed.core.transitions import State
from tests.builders import NEW, NOON, OLD, collection, index, migration, store

ASKED = AskedInspection("uid-docs", "n-1")
ACCEPTED = Answer("n-1", "Accepted")
STORE = store(collection(), inspections=())
OWN = of_attempt("uid-docs", "uid-move", 1, OLD)
FINDING = Finding("VectorsZero", 2, 0.002, (), "2 vectors are zero")


def report(name: str = "i", hours: float = 1, **changes: object) -> InspectionReport:
    made = InspectionReport(
        name, NOON - timedelta(hours=hours), OLD.collection, OLD.fingerprint, 9, 9, (), Reproduced(9, 1.0, 1.0, 1.0)
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def order(asked: AskedInspection, found: SeenIndex | None = None) -> Order | None:
    given = answer(found or index(), STORE, asked, None)
    return due(found or index(), STORE, (asked, given), None)


def test_what_answers_is_inspected_with_its_pool() -> None:
    found = order(ASKED)
    assert found is not None
    assert replace(found, id="") == Order("", "docs", "uid-docs", OLD.collection, OLD.fingerprint, "old")


def test_a_collection_by_name_is_inspected_with_its_pool_if_that_answers_somebody() -> None:
    named = replace(ASKED, collection=NEW.collection)
    both, alone = order(named), order(named, index(candidate=None))
    assert both is not None
    assert alone is not None
    assert (both.pool, alone.pool, alone.fingerprint) == ("new", None, NEW.fingerprint)


@pytest.mark.parametrize(
    ("asked", "found", "says"),
    [
        pytest.param(AskedInspection("", "n", None, "no JSON"), index(), "no JSON", id="unreadable"),
        pytest.param(
            replace(ASKED, uid="other"),
            index(),
            "it is meant for UID other, and this index's is uid-docs",
            id="another index",
        ),
        pytest.param(
            ASKED,
            index(routing=Routing()),
            "nothing answers yet, so there is nothing to inspect",
            id="nothing answers",
        ),
        pytest.param(
            replace(ASKED, collection="c_gone"),
            index(),
            f"there is no collection 'c_gone'; there are: c_old, {NEW.collection}",
            id="no such collection",
        ),
    ],
)
def test_what_cannot_be_inspected_is_refused_once(asked: AskedInspection, found: SeenIndex, says: str) -> None:
    told = answer(found, STORE, asked, None)
    assert told == Answer(asked.nonce, "Refused", says)
    assert answer(found, STORE, asked, told) == told
    assert due(found, STORE, (asked, told), None) is None


def test_a_command_is_done_when_its_outcome_is_in_the_store_and_never_again() -> None:
    found = order(ASKED)
    assert found is not None
    done = answer(index(), replace(STORE, inspections=(report(found.id),)), ASKED, ACCEPTED)
    assert done == Answer("n-1", "Done")
    assert answer(index(), STORE, ASKED, done) == done
    assert due(index(), STORE, (ASKED, done), None) is None
    again = replace(ASKED, nonce="n-2")
    assert answer(index(), STORE, again, done) == Answer("n-2", "Accepted")


@pytest.mark.parametrize(
    "silent", [None, replace(STORE, problem=Problem("StoreUnreachable", "x"))], ids=["silent", "in trouble"]
)
def test_while_the_store_is_not_heard_nothing_is_answered_and_nothing_made(silent: StoreReport | None) -> None:
    assert answer(index(), silent, ASKED, None) is None
    assert due(index(), silent, (ASKED, ACCEPTED), migration()) is None


def test_a_store_that_nothing_inspects_is_left_alone_and_says_so() -> None:
    other = replace(STORE, inspections=None)
    assert answer(index(), other, ASKED, None) == Answer(
        "n-1", "Refused", "the store of this index is of a kind that nothing inspects"
    )
    assert due(index(), other, (None, None), migration()) is None


def test_what_a_migration_moves_away_from_is_inspected_as_soon_as_the_index_is_its_own() -> None:
    wanted = Order(OWN, "docs", "uid-docs", OLD.collection, OLD.fingerprint, "old")
    assert due(index(), STORE, (None, None), migration()) == wanted


@pytest.mark.parametrize(
    ("holder", "found", "reports"),
    [
        pytest.param(migration(), index(held=False), (), id="it does not hold the index"),
        pytest.param(migration(State.BACKFILLING), index(), (), id="it fills already"),
        pytest.param(migration(timeline=()), index(), (), id="it has not begun"),
        pytest.param(migration(), index(routing=Routing()), (), id="a first fill"),
        pytest.param(migration(), index(), (report(),), id="that was done today"),
        pytest.param(None, index(), (), id="no migration"),
    ],
)
def test_nothing_is_inspected_for_nobody(
    holder: Migration | None, found: SeenIndex, reports: tuple[InspectionReport, ...]
) -> None:
    assert due(found, replace(STORE, inspections=reports), (None, None), holder) is None


GAVE_UP = JobReport("reembed-inspect-docs-1", 0, 4, False, True, "BackoffLimitExceeded")
STUCK = JobReport("reembed-inspect-docs-1", 1, 0, False, False, problem=Problem("ImagePullBackOff", "no image"))
SOME = Order("o", "docs", "uid-docs", OLD.collection, OLD.fingerprint, "old")


@pytest.mark.parametrize(
    ("found", "reports", "order", "job", "is_"),
    [
        pytest.param(index(routing=Routing()), (), None, None, (None, "NothingToInspect"), id="nothing answers"),
        pytest.param(index(), (), None, None, (None, "NotInspected"), id="never"),
        pytest.param(index(), None, None, None, (None, "NotInspected"), id="silent store"),
        pytest.param(index(), (), SOME, None, (None, "Inspecting"), id="under way"),
        pytest.param(index(), (), SOME, GAVE_UP, (None, "InspectionFailed"), id="gave up"),
        pytest.param(index(), (), SOME, STUCK, (None, "InspectionFailed"), id="its pod does not start"),
        pytest.param(index(), (report(),), SOME, None, (True, "NothingFound"), id="sound"),
        pytest.param(
            index(), (report(findings=(FINDING,)), report("b", 2)), None, None, (False, "VectorsZero"), id="a finding"
        ),
        pytest.param(
            index(), (report(collection=NEW.collection),), None, None, (None, "NotInspected"), id="another collection"
        ),
    ],
)
def test_the_condition_says_whether_what_answers_is_known_to_be_sound(
    found: SeenIndex,
    reports: tuple[InspectionReport, ...] | None,
    order: Order | None,
    job: JobReport | None,
    is_: tuple[bool | None, str],
) -> None:
    told: Condition = condition(found, reports, order, job)
    assert (told.type, (told.status, told.reason)) == ("Inspected", is_)


def test_a_migration_waits_for_its_own_inspection_and_for_none_that_somebody_asked_for() -> None:
    asked = replace(ASKED, collection=NEW.collection)
    given = answer(index(), STORE, asked, None)
    found = due(index(), STORE, (asked, given), migration(State.PREFLIGHT))
    assert found is not None
    assert found.id == OWN


def test_what_keeps_an_inspection_from_being_made_is_told_before_what_an_old_one_found() -> None:
    gave_up = JobReport("job", 0, 4, complete=False, exhausted=True, message="its pods failed")
    waits = JobReport("job", 1, 0, complete=False, exhausted=False, problem=Problem("Unschedulable", "no room"))
    found = [condition(index(), [report(hours=100)], order(ASKED), one) for one in (gave_up, waits, None)]
    assert [one.reason for one in found] == ["InspectionFailed", "InspectionFailed", "NothingFound"]
