"""Whether a column that its application keeps is a way back, and what a migration does while it is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core import names
from reembed.core.decide import decide
from reembed.core.keeping import condition
from reembed.core.migration import Migration, Seen, SeenIndex
from reembed.core.model import (
    Adopted,
    Arm,
    Command,
    Finding,
    InspectionReport,
    Kept,
    MaintainedBy,
    PointerPlan,
    Problem,
    Reproduced,
    StoreReport,
    Verb,
)
from reembed.core.reasons import EXCUSED
from reembed.core.transitions import State
from tests import builders as b

COLUMN = Arm("old", names.adopted("uid-docs"), b.OLD.fingerprint)
KEPT = Kept(changed=True, looked=20, missing=0, compared=20, far=0)
LEFT = Kept(changed=True, looked=20, missing=12, compared=8, far=5, examples=("3", "7"))
BY_CHANCE = replace(KEPT, changed=False)


def index(weight: int = 0, by: MaintainedBy = MaintainedBy.APPLICATION) -> SeenIndex:
    """Return an index that a column of its application serves."""
    found = b.index(weight)
    adopted = replace(found.spec, adopted=Adopted("embedding", "old", by))
    routing = replace(found.status.routing, serving=COLUMN)
    return replace(found, spec=adopted, status=replace(found.status, routing=routing))


def store(kept: Kept | None, *reports: InspectionReport) -> StoreReport:
    found = b.store(b.collection(), inspections=reports)
    column, *others = found.collections
    return replace(found, collections=(replace(column, name=COLUMN.collection, kept=kept), *others))


def inspected(share: float = 1.0, missing: float = 0.0) -> InspectionReport:
    findings = (Finding("DocumentsWithoutVector", 1, missing, (), "some have none"),) if missing else ()
    again = Reproduced(200, 1.0, 1.0, share)
    return InspectionReport("i", b.NOON, COLUMN.collection, COLUMN.fingerprint, 9, 9, findings, again)


def status(kept: Kept | None, *reports: InspectionReport) -> bool | None:
    found = condition(index(), store(kept, *reports))
    assert found is not None
    assert found.type == "RollbackReady"
    return found.status


@pytest.mark.parametrize(
    ("kept", "ready"),
    [
        pytest.param(KEPT, True, id="all are theirs"),
        pytest.param(replace(KEPT, missing=2, compared=18, far=2), True, id="a few fail, as anywhere"),
        pytest.param(replace(KEPT, missing=5, compared=0), False, id="vectors are missing and the pool is silent"),
        pytest.param(replace(KEPT, far=5), False, id="vectors are of older texts"),
        pytest.param(Kept(changed=True, looked=1, missing=1, compared=0, far=0), False, id="the only one is missing"),
        pytest.param(Kept(changed=True, looked=0, missing=0, compared=0, far=0), True, id="nothing to look at"),
        pytest.param(replace(BY_CHANCE, missing=9, compared=11), True, id="gaps that may be as old as the column"),
        pytest.param(replace(BY_CHANCE, missing=11, compared=9), False, id="a column that was emptied"),
        pytest.param(replace(BY_CHANCE, problem="it is gone"), False, id="a column that was dropped"),
        pytest.param(replace(KEPT, compared=0), None, id="the pool is silent and nothing is missing"),
        pytest.param(None, None, id="nobody has looked"),
    ],
)
def test_a_column_is_a_way_back_while_what_changed_has_its_vector(kept: Kept | None, ready: bool | None) -> None:
    assert status(kept) is ready


def test_what_an_inspection_found_of_the_column_anyway_does_not_speak_against_its_application() -> None:
    cut_off = replace(KEPT, far=6)
    assert (status(cut_off), status(cut_off, inspected(share=0.8))) == (False, True)
    gaps = replace(BY_CHANCE, missing=11, compared=9)
    assert (status(gaps), status(gaps, inspected(missing=0.5))) == (False, True)


def test_the_message_has_the_numbers_and_what_to_do() -> None:
    found = condition(index(), store(LEFT))
    assert found is not None
    assert (found.status, found.reason) == (False, "RollbackNotReady")
    assert found.message == (
        "the application does not keep column 'embedding' of docs fresh: of 20 documents whose text changed more than"
        " 1 min ago 12 have no vector, and 5 of 8 that were embedded again have one that is not their text's (cosine"
        " below 0.98), such as 3, 7. Queries that go back would miss or misjudge what changed, so no more go to the new"
        " side; they can be taken back all the same. Have the application write a vector with every text until the"
        " migration's retention has ended"
    )


def test_the_condition_is_there_whoever_keeps_what_answers() -> None:
    nobody = replace(b.index(), status=replace(b.index().status, routing=b.index(candidate=None).status.routing))
    empty = replace(nobody, status=replace(nobody.status, routing=replace(nobody.status.routing, serving=None)))
    found = [condition(one, store(LEFT)) for one in (b.index(), index(by=MaintainedBy.REEMBED), empty)]
    assert [(one.status, one.reason) for one in found if one is not None] == [
        (True, "KeptByReembed"),
        (True, "KeptByReembed"),
        (None, "NothingServes"),
    ]


def test_while_the_store_says_nothing_the_last_condition_stands() -> None:
    broken = replace(store(LEFT), problem=Problem("StoreUnreachable", "away"))
    assert (condition(index(), None), condition(index(), broken)) == (None, None)


def moving(state: State, **changes: object) -> Migration:
    return b.migration(state, serving=COLUMN, **changes)


def seen(kept: Kept | None, weight: int) -> Seen:
    quick = b.seen().probes[b.NEW.collection]
    measured = {COLUMN.collection: quick, b.NEW.collection: quick}
    return b.seen(index(weight), store=store(kept), arms=measured, probes=measured)


def after_hold(kept: Kept | None, **changes: object) -> tuple[str, int]:
    """Return why a canary's first step is left or not once it was held, and the step that follows."""
    held = moving(State.CANARY, acknowledged_at=b.NOON, **changes)
    found = decide(held, seen(kept, 10), b.after(301)).status
    return found.reason, found.step


def test_no_traffic_is_raised_while_the_column_is_no_way_back() -> None:
    assert after_hold(KEPT) == after_hold(None) == ("StepHeld", 1)
    assert after_hold(LEFT) == ("RollbackNotReady", 0)
    found = decide(moving(State.EVALUATING), seen(LEFT, 0), b.NOON).status
    assert (found.state, found.reason) == (State.EVALUATING, "RollbackNotReady")


def test_a_pool_of_which_somebody_knows_that_it_did_not_make_the_vectors_proves_nothing_by_them() -> None:
    spec = {"acknowledge": frozenset({"VectorsNotReproduced"})}
    assert after_hold(replace(KEPT, far=20), spec=spec) == ("StepHeld", 1)
    assert after_hold(replace(KEPT, missing=20, compared=0), spec=spec) == ("RollbackNotReady", 0)


def test_that_wait_counts_towards_no_deadline_which_would_go_back_to_that_very_column() -> None:
    assert "RollbackNotReady" in EXCUSED
    waiting = moving(State.CANARY, acknowledged_at=b.NOON)
    for seconds in range(301, 7201, 60):
        waiting = replace(waiting, status=decide(waiting, seen(LEFT, 10), b.after(seconds)).status)
    assert (waiting.status.state, waiting.status.reason) == (State.CANARY, "RollbackNotReady")


def test_queries_can_go_back_all_the_same() -> None:
    asked = (Command(Verb.ABORT, "uid-move", "1/Canary/0", "n"),)
    found = decide(replace(moving(State.CANARY, acknowledged_at=b.NOON), asked=asked), seen(LEFT, 10), b.after(1))
    assert found.status.state is State.ROLLING_BACK


def test_the_retention_ends_all_the_same_since_the_column_is_left_then() -> None:
    done = moving(State.RETAINING, acknowledged_at=b.NOON)
    moved = replace(store(LEFT), pointer=PointerPlan(b.NEW.collection, b.NEW.fingerprint, 2))
    found_index = seen(LEFT, 100).index
    assert found_index is not None
    plan = replace(found_index.status.plan, pointer=moved.pointer)
    index_of = replace(found_index, status=replace(found_index.status, plan=plan))
    world = replace(seen(LEFT, 100), store=moved, index=index_of)
    late = b.after(done.spec.retention.total_seconds() + 1)
    found = decide(done, world, late).status
    assert (found.state, found.reason) == (State.PROMOTING, "WindowEnded")


@pytest.mark.parametrize(("state", "weight"), [(State.CANARY, 10), (State.RETAINING, 100)])
def test_it_is_told_once_when_it_begins_and_once_when_it_is_over(state: State, weight: int) -> None:
    migration, notes = moving(state, acknowledged_at=b.NOON), []
    for seconds, kept in enumerate((KEPT, LEFT, replace(LEFT, missing=13), KEPT, KEPT)):
        verdict = decide(migration, seen(kept, weight), b.after(seconds))
        migration = replace(migration, status=verdict.status)
        notes.append([(one.reason, one.warning) for one in verdict.notes])
        assert bool(migration.status.no_way_back) is (kept.missing > 0)
    assert notes == [[], [("RollbackNotReady", True)], [], [("RollbackReady", False)], []]


def test_what_was_known_stands_while_the_store_is_silent() -> None:
    known = moving(State.RETAINING, acknowledged_at=b.NOON, no_way_back="it is not kept")
    found = decide(known, replace(seen(LEFT, 100), store=None), b.NOON + timedelta(seconds=1))
    assert (found.status.no_way_back, found.notes) == ("it is not kept", ())
