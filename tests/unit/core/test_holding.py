"""Who holds an index, who waits for it, and what becomes of a migration whose index was taken from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core.decide import Verdict, decide
from reembed.core.effects import SetIndexStatus
from reembed.core.migration import Visit
from reembed.core.model import (
    ArmMeasure,
    CollectionPlan,
    Desired,
    EvaluationPlan,
    Excused,
    GatewayReport,
    Holder,
    IndexStatus,
    PointerPlan,
    Routing,
    StorePlan,
)
from reembed.core.transitions import State
from tests import builders as b

NEW = b.NEW.collection
OTHER = Holder("other", "uid-other")
EMPTIED = replace(b.index(), status=IndexStatus())
REBUILT = b.index(held=False, candidate=None)


def written(verdict: Verdict) -> IndexStatus:
    (effect,) = [one for one in (*verdict.before, *verdict.after) if isinstance(one, SetIndexStatus)]
    return effect.status


def test_waiting_for_another_migration_does_not_count_to_the_deadline() -> None:
    waits = b.migration(reason="IndexHeld", excused=Excused(since=b.NOON))
    waiting = decide(waits, b.seen(b.index(active_migration=OTHER)), b.after(3600 * 48))
    free = b.seen(b.index(held=False, candidate=None))
    begun = decide(replace(b.migration(), status=waiting.status), free, b.after(3600 * 48))
    late = decide(replace(b.migration(), status=begun.status), b.seen(store=None), b.after(3600 * 73))
    assert [one.status.state for one in (waiting, begun, late)] == [State.PREFLIGHT, State.PREFLIGHT, State.FAILED]
    assert begun.status.excused == Excused(timedelta(hours=48), timedelta(hours=48))


def test_a_holder_of_the_same_name_is_told_by_its_uid() -> None:
    ghost = b.index(active_migration=Holder("move", "uid-before"))
    message = decide(b.migration(), b.seen(ghost), b.NOON).status.message
    assert "'move' of UID uid-before, which had the same name" in message


@pytest.mark.parametrize("state", [State.BACKFILLING, State.INDEXING, State.EVALUATING, State.CANARY, State.RETAINING])
def test_an_index_whose_status_was_emptied_is_waited_for(state: State) -> None:
    verdict = decide(b.migration(state), b.seen(EMPTIED, gateways=()), b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (state, "StatusLost")
    assert not any(isinstance(one, SetIndexStatus) for one in (*verdict.before, *verdict.after))


@pytest.mark.parametrize("state", [State.BACKFILLING, State.INDEXING, State.EVALUATING, State.CANARY])
def test_an_index_that_nobody_holds_any_more_is_held_again(state: State) -> None:
    verdict = decide(b.migration(state), b.seen(REBUILT), b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (state, "ClaimingIndex")
    assert written(verdict) == replace(REBUILT.status, active_migration=Holder("move", "uid-move"))


@pytest.mark.parametrize(
    ("state", "ends_in"),
    [
        (State.BACKFILLING, State.FAILED),
        (State.INDEXING, State.FAILED),
        (State.EVALUATING, State.ROLLING_BACK),
        (State.CANARY, State.ROLLING_BACK),
        (State.RETAINING, State.ROLLING_BACK),
        (State.PROMOTING, State.FAILED),
    ],
)
def test_a_migration_whose_index_another_holds_takes_back_what_it_made(state: State, ends_in: State) -> None:
    verdict = decide(b.migration(state), b.seen(b.index(active_migration=OTHER, candidate=None)), b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (ends_in, "IndexLost")


def test_a_first_fill_whose_index_was_emptied_before_anything_was_made_begins_with_it_anew() -> None:
    empty = replace(b.store(pointer=None), collections=())
    verdict = decide(b.migration(State.BACKFILLING, serving=None), b.seen(EMPTIED, store=empty, gateways=()), b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (State.BACKFILLING, "ClaimingIndex")
    assert written(verdict) == IndexStatus(active_migration=Holder("move", "uid-move"))


def test_a_promotion_whose_index_was_taken_before_it_was_told_waits_for_it() -> None:
    """The candidate answers all queries: to give it up would leave them with nobody who watches over them."""
    stolen = b.index(100, active_migration=OTHER)
    verdict = decide(b.migration(State.PROMOTING), b.seen(stolen), b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (State.PROMOTING, "IndexLost")
    free = b.seen(b.index(100, held=False))
    assert written(decide(b.migration(State.PROMOTING), free, b.NOON)).active_migration == Holder("move", "uid-move")


def test_an_index_whose_queries_go_to_anothers_candidate_is_not_begun_with() -> None:
    left = b.index(10, held=False)
    status = decide(b.migration(), b.seen(left), b.NOON).status
    assert (status.state, status.reason) == (State.PREFLIGHT, "IndexHeld")
    assert status.message.endswith("taken back or promoted: 10 % of its queries go to pool 'new'")


def test_who_does_not_hold_the_index_takes_back_its_own_collection_and_nothing_else() -> None:
    theirs = b.index(active_migration=OTHER)
    evaluation = EvaluationPlan("uid-other-1", b.OLD, b.OLD, b.EVALUATION)
    theirs = replace(
        theirs,
        status=replace(
            theirs.status,
            routing=Routing(5, serving=b.OLD),
            plan=replace(theirs.status.plan, evaluation=evaluation),
        ),
    )
    after = written(decide(b.migration(State.UNWINDING, deleting=True), b.seen(theirs), b.NOON))
    collections = theirs.status.plan.collections
    dropped = (*collections[:-1], replace(collections[-1], desired=Desired.DROPPED))
    assert after == replace(theirs.status, plan=replace(theirs.status.plan, collections=dropped))


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        pytest.param(None, False, id="by a worker that does not say so"),
        pytest.param(frozenset({NEW}), False, id="as the worker says"),
        pytest.param(frozenset(), True, id="or may be made this moment"),
    ],
)
def test_what_is_not_there_was_dropped(said: frozenset[str] | None, kept: bool) -> None:
    entries = b.index(0).status.plan.collections
    plan = replace(b.index(0).status.plan, collections=(*entries[:-1], replace(entries[-1], desired=Desired.DROPPED)))
    index = replace(b.index(0), status=replace(b.index(0).status, plan=plan))
    seen = b.seen(index, store=b.store(dropped=said))
    after = written(decide(b.migration(State.UNWINDING, deleting=True), seen, b.NOON))
    assert (NEW in {one.name for one in after.plan.collections}) == kept


def test_a_collection_that_answers_is_not_dropped_with_the_migration_that_made_it() -> None:
    serving = b.index(held=False, routing=Routing(9, serving=b.NEW))
    verdict = decide(b.migration(State.FAILED, deleting=True), b.seen(serving), b.NOON)
    assert verdict.after == ()


def test_a_collection_that_the_plan_forgot_is_dropped_all_the_same() -> None:
    forgotten = b.index(held=False, candidate=None)
    after = written(decide(b.migration(State.UNWINDING, deleting=True), b.seen(forgotten), b.NOON))
    assert after.plan.collections[-1] == CollectionPlan(NEW, "new", b.NEW.fingerprint, 384, 8, Desired.DROPPED)


def test_a_collection_that_answers_is_not_dropped_although_the_plan_forgot_it() -> None:
    serving = b.index(held=False, candidate=None, routing=Routing(9, serving=b.NEW))
    assert decide(b.migration(State.UNWINDING, deleting=True), b.seen(serving), b.NOON).after == ()


def test_a_plan_has_room_for_the_next_collection_however_many_were_withdrawn() -> None:
    old = [CollectionPlan(f"c_{n}", "old", "fp", 384, 8, Desired.WITHDRAWN) for n in range(60)]
    serving = b.index(candidate=None).status.plan.collections
    plan = StorePlan((*old, *serving), PointerPlan(b.OLD.collection, b.OLD.fingerprint, 1))
    verdict = decide(b.migration(State.BACKFILLING), b.seen(b.index(candidate=None, plan=plan), store=None), b.NOON)
    names = [one.name for one in written(verdict).plan.collections]
    assert (len(names), names[-2:]) == (32, [b.OLD.collection, NEW])


def test_a_rollback_after_the_rebuilt_status_named_the_candidate_gives_routing_and_pointer_back() -> None:
    pointer = PointerPlan(NEW, b.NEW.fingerprint, 2)
    found = b.index(0, routing=Routing(9, serving=b.NEW))
    found = replace(found, status=replace(found.status, plan=replace(found.status.plan, pointer=pointer)))
    lowered = decide(b.migration(State.RETAINING, acknowledged_at=b.NOON), b.seen(found), b.NOON)
    assert (lowered.status.state, written(lowered).routing) == (State.ROLLING_BACK, Routing(10, b.OLD, b.NEW, 0))
    back = replace(found, status=written(lowered))
    after = written(decide(b.migration(State.ROLLING_BACK), b.seen(back), b.NOON))
    assert after.plan.pointer == PointerPlan(b.OLD.collection, b.OLD.fingerprint, 3)


def test_a_hold_of_hours_is_not_shortened_by_a_claim_taken_again() -> None:
    migration = b.migration(State.CANARY, acknowledged_at=b.NOON)
    again = decide(migration, b.seen(REBUILT), b.after(10)).status
    held = b.index(0)
    lowered = decide(replace(migration, status=again), b.seen(held), b.after(12)).status
    assert (again.acknowledged_at, lowered.state, lowered.reason) == (b.NOON, State.ROLLING_BACK, "WeightLowered")
    assert lowered.entered_at == b.NOON + timedelta(seconds=12)


NO_POINTER = b.store(pointer=None, collections=())


@pytest.mark.parametrize(
    ("world", "reason"),
    [
        pytest.param({}, "StatusLost", id="the store knows what answers"),
        pytest.param({"store": None}, "StoreWorkerMissing", id="nobody asked the store yet"),
        pytest.param({"store": NO_POINTER}, "StatusLost", id="gateways know an epoch"),
        pytest.param({"store": NO_POINTER, "gateways": ()}, "ClaimingIndex", id="a new index"),
    ],
)
def test_whoever_waits_does_not_take_an_emptied_index_for_a_new_one(world: dict[str, object], reason: str) -> None:
    gateway = GatewayReport("a", 3, 0, b.OLD, None)
    seen = b.seen(EMPTIED, gateways=(gateway,), gateway_pods=("a",))
    found = decide(b.migration(spec={"from_pool": None}), replace(seen, **world), b.NOON)  # type: ignore[arg-type]
    assert (found.status.state, found.status.reason) == (State.PREFLIGHT, reason)


def test_what_the_store_never_made_is_not_waited_for() -> None:
    index = b.index(0)
    gone = b.store()
    first = decide(b.migration(State.ROLLING_BACK), b.seen(index, store=gone), b.NOON)
    planned = [one.status.plan for one in first.after if isinstance(one, SetIndexStatus)]
    assert [one.desired for plan in planned for one in plan.collections if one.name == b.NEW.collection] == [
        Desired.DROPPED
    ]
    index = replace(index, status=replace(index.status, plan=planned[0]))
    second = decide(b.migration(State.ROLLING_BACK), b.seen(index, store=gone), b.NOON)
    (effect,) = [one for one in second.after if isinstance(one, SetIndexStatus)]
    assert [one.name for one in effect.status.plan.collections] == [b.OLD.collection]
    index = replace(index, status=effect.status)
    assert decide(b.migration(State.ROLLING_BACK), b.seen(index, store=gone), b.NOON).status.state is State.ROLLED_BACK


@pytest.mark.parametrize("state", [State.ROLLING_BACK, State.UNWINDING])
def test_gateways_forget_what_never_had_traffic_as_it_is_withdrawn(state: State) -> None:
    timeline = (Visit(State.EVALUATING, b.NOON), Visit(state, b.NOON))
    gone = Desired.DROPPED if state is State.UNWINDING else Desired.WITHDRAWN
    status = written(decide(b.migration(state, timeline=timeline), b.seen(b.index(0)), b.NOON))
    assert status.routing == Routing(4, b.OLD)
    assert [one.desired for one in status.plan.collections] == [Desired.INDEXED, gone]


def test_what_is_taken_back_has_no_triggers_any_more() -> None:
    failing = {b.OLD.collection: b.seen().arms[b.OLD.collection], NEW: ArmMeasure(100, 100, None)}
    verdict = decide(b.migration(State.ROLLING_BACK), b.seen(b.index(0), arms=failing), b.NOON)
    assert verdict.status.triggers == {}


def test_the_pointer_goes_back_when_no_gateway_asks_the_candidate_any_more() -> None:
    pointer = PointerPlan(b.NEW.collection, b.NEW.fingerprint, 2)
    index = b.index(0)
    index = replace(index, status=replace(index.status, plan=replace(index.status.plan, pointer=pointer)))
    world = b.seen(index, store=b.store(b.collection(), pointer=pointer))
    lagging = replace(world, gateways=(replace(world.gateways[0], epoch=2, weight=100), world.gateways[1]))
    silent = replace(world, gateways=world.gateways[:1])
    migration = b.migration(State.ROLLING_BACK)
    assert [decide(migration, one, b.NOON).after for one in (lagging, silent)] == [(), ()]
    back = written(decide(migration, world, b.NOON)).plan.pointer
    assert back == PointerPlan(b.OLD.collection, b.OLD.fingerprint, 3)


@pytest.mark.parametrize(
    ("state", "weight"),
    [
        pytest.param(State.CANARY, 0, id="a raise"),
        pytest.param(State.ROLLING_BACK, 10, id="a lowering"),
    ],
)
def test_the_index_is_written_as_long_as_nobody_else_wrote_it_since_it_was_seen(state: State, weight: int) -> None:
    index = b.index(weight)
    index = replace(index, meta=replace(index.meta, resource_version="4711"))
    verdict = decide(b.migration(state), b.seen(index), b.NOON)
    effects = [one for one in (*verdict.before, *verdict.after) if isinstance(one, SetIndexStatus)]
    assert [one.resource_version for one in effects] == ["4711"]
