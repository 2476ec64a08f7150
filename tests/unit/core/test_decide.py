"""A migration moves only for a reason, takes traffic back at once, and goes on from the objects alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core.decide import Verdict, decide, worth_writing
from reembed.core.effects import ApplyJob, DeleteJob, SetFinalizer, SetIndexStatus
from reembed.core.migration import Backfill, Migration, Seen, Status
from reembed.core.model import (
    ArmMeasure,
    Desired,
    EvaluationReport,
    Holder,
    JobReport,
    PointerPlan,
    Problem,
    TriggerState,
)
from reembed.core.transitions import TRANSITIONS, Event, IllegalMove, State, move
from tests import builders as b

HELD_STEP = {"acknowledged_at": b.NOON}
FAILING = ArmMeasure(requests=200, errors=40, p95=timedelta(milliseconds=40))


def failing(world: Seen, *collections: str) -> Seen:
    return replace(world, arms={**world.arms, **dict.fromkeys(collections, FAILING)})


def index_effect(verdict: Verdict) -> SetIndexStatus:
    return next(one for one in (*verdict.before, *verdict.after) if isinstance(one, SetIndexStatus))


def written(state: State, step: int = 0, weight: int = 0) -> tuple[Migration, Seen]:
    return b.migration(state, step=step, **HELD_STEP), b.seen(b.index(weight))


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", list(Event))
def test_every_pair_of_state_and_event_is_listed_or_refused(state: State, event: Event) -> None:
    if event in TRANSITIONS[state]:
        assert move(state, event) in State
    else:
        with pytest.raises(IllegalMove):
            move(state, event)


def test_an_object_gets_its_finalizer_before_anything_is_made() -> None:
    new = b.migration()
    bare = replace(new, meta=replace(new.meta, finalizers=()))
    assert decide(bare, b.seen(), b.NOON).after == (SetFinalizer(present=True),)


def test_a_free_index_is_claimed_before_anything_is_made() -> None:
    verdict = decide(b.migration(), b.seen(b.index(held=False, candidate=None)), b.NOON)
    assert index_effect(verdict).status.active_migration == Holder("move", "uid-move")


def test_a_migration_waits_for_the_one_that_holds_its_index() -> None:
    busy = b.index(active_migration=Holder("other", "uid-other"))
    verdict = decide(b.migration(), b.seen(busy), b.NOON)
    assert (verdict.status.state, verdict.status.reason, verdict.after) == (State.PREFLIGHT, "IndexHeld", ())


@pytest.mark.parametrize(
    ("world", "reason"),
    [
        pytest.param({"index": None}, "IndexMissing", id="no index"),
        pytest.param({"target": None}, "PoolMissing", id="no pool"),
        pytest.param({"store": None}, "StoreWorkerMissing", id="no store worker"),
        pytest.param({"target": b.pool("new", ready=0)}, "PoolNotReady", id="pool starts"),
        pytest.param({"gateways": ()}, "GatewayNotReady", id="gateways start"),
        pytest.param({"arms": {}}, "MeasuringBaseline", id="nothing measured yet"),
        pytest.param(
            {"store": b.store(problem=Problem("ExtensionMissing", "no extension"))}, "ExtensionMissing", id="store"
        ),
    ],
)
def test_preflight_waits_with_a_reason_for_what_can_still_come(world: dict[str, object], reason: str) -> None:
    verdict = decide(b.migration(), b.seen(b.index(candidate=None), **world), b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (State.PREFLIGHT, reason)


def test_preflight_fails_on_a_model_that_waiting_cannot_heal() -> None:
    broken = b.pool("new", ready=0, problem=Problem("ModelChecksumMismatch", "expected a, found b"), permanent=True)
    verdict = decide(b.migration(), b.seen(b.index(candidate=None), target=broken), b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (State.FAILED, "ModelChecksumMismatch")


def test_preflight_refuses_a_dimension_that_no_vector_index_holds() -> None:
    large = b.pool("new")
    large = replace(large, spec=replace(large.spec, model=b.model("new", dimensions=4001)))
    verdict = decide(b.migration(), b.seen(b.index(candidate=None), target=large), b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (State.FAILED, "DimensionsTooLarge")


def test_an_index_served_by_another_pool_than_expected_is_not_touched() -> None:
    verdict = decide(b.migration(spec={"from_pool": "third"}), b.seen(b.index(held=False, candidate=None)), b.NOON)
    assert (verdict.status.reason, verdict.after) == ("OtherPoolServes", ())


def test_a_target_that_serves_already_ends_the_migration_without_an_effect() -> None:
    there = b.index(held=False, candidate=None)
    there = replace(there, status=replace(there.status, routing=replace(there.status.routing, serving=b.NEW)))
    verdict = decide(b.migration(), b.seen(there), b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (State.SUCCEEDED, "AlreadyThere")
    assert verdict.after == (SetFinalizer(present=False),)


def test_backfilling_plans_the_collection_and_records_the_baseline() -> None:
    verdict = decide(b.migration(), b.seen(b.index(candidate=None), store=b.store()), b.NOON)
    planned = index_effect(verdict).status.plan.collections[-1]
    assert (verdict.status.state, verdict.status.baseline.p95) == (  # type: ignore[union-attr]
        State.BACKFILLING,
        timedelta(milliseconds=40),
    )
    assert (planned.name, planned.desired) == (b.NEW.collection, Desired.PRESENT)


def test_the_job_is_made_once_the_store_has_the_collection() -> None:
    world = b.seen(store=b.store(b.collection("Filling", shards_done=0)))
    (job,) = (
        one.job for one in decide(b.migration(State.BACKFILLING), world, b.NOON).after if isinstance(one, ApplyJob)
    )
    assert (job.collection, job.parallelism, job.image) == (b.NEW.collection, 2, "backfill:1")


def test_a_newer_operator_goes_on_with_the_image_that_the_migration_began_with() -> None:
    world = b.seen(store=b.store(b.collection("Filling", shards_done=0)), backfill_image="backfill:2")
    verdict = decide(b.migration(State.BACKFILLING), world, b.NOON)
    assert [one.job.image for one in verdict.after if isinstance(one, ApplyJob)] == ["backfill:1"]


def test_a_job_that_says_it_is_done_is_not_believed_before_the_store_says_so() -> None:
    job = JobReport("job", 0, 0, complete=True, exhausted=False)
    stores = [b.store(b.collection("Filling", shards_done=done)) for done in (7, 8)]
    states = [decide(b.migration(State.BACKFILLING), b.seen(store=one, job=job), b.NOON).status.state for one in stores]
    assert states == [State.BACKFILLING, State.INDEXING]


def test_a_backfill_whose_pods_find_no_room_says_so() -> None:
    job = JobReport("job", 1, 0, complete=False, exhausted=False, problem=Problem("Unschedulable", "no room"))
    world = b.seen(store=b.store(b.collection("Filling", shards_done=0)), job=job)
    status = decide(b.migration(State.BACKFILLING), world, b.NOON).status
    assert (status.state, status.reason) == (State.BACKFILLING, "Unschedulable")


def test_a_due_trigger_pauses_the_backfill_instead_of_throwing_it_away() -> None:
    held = {"MemoryPressure": TriggerState(b.NOON, timedelta(minutes=5), b.NOON)}
    world = b.seen(store=b.store(b.collection("Filling", shards_done=0)), target=b.pool("new", memory=0.95))
    verdict = decide(b.migration(State.BACKFILLING, triggers=held), world, b.after(2))
    (job,) = (one.job for one in verdict.after if isinstance(one, ApplyJob))
    assert (verdict.status.state, verdict.status.reason, job.parallelism) == (State.BACKFILLING, "MemoryPressure", 0)


@pytest.mark.parametrize(
    ("report", "job", "reason"),
    [
        pytest.param(b.collection("Filling", rejected=20, shards_done=1), None, "TooManyRejected", id="rejected"),
        pytest.param(
            b.collection("Filling", shards_done=1),
            JobReport("job", 0, 9, complete=False, exhausted=True),
            "BackfillFailed",
            id="job gave up",
        ),
    ],
)
def test_a_backfill_that_cannot_end_fails(report: object, job: JobReport | None, reason: str) -> None:
    world = b.seen(store=b.store(report), job=job)  # type: ignore[arg-type]
    verdict = decide(b.migration(State.BACKFILLING), world, b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (State.FAILED, reason)


@pytest.mark.parametrize(
    ("verdict_of_gate", "state", "reason"),
    [
        ("Better", State.CANARY, "Evaluated"),
        ("NonInferior", State.CANARY, "Evaluated"),
        ("Inferior", State.ROLLING_BACK, "RetrievalInferior"),
        ("Inconclusive", State.EVALUATING, "RetrievalInconclusive"),
        ("TooFewQueries", State.EVALUATING, "RetrievalTooFewQueries"),
    ],
)
def test_the_offline_gate_decides_who_sees_traffic(verdict_of_gate: str, state: State, reason: str) -> None:
    report = EvaluationReport("uid-move-1", verdict_of_gate, 600, 10, 0.5, 0.6, 0.05, 0.15, "as it is")
    labels = {"evaluation": b.EVALUATION}
    world = b.seen(store=b.store(b.collection(), evaluation=report))
    verdict = decide(b.migration(State.EVALUATING, spec=labels), world, b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (state, reason)


def test_what_an_earlier_attempt_was_judged_by_says_nothing_of_this_one() -> None:
    report = EvaluationReport("uid-move-0", "Better", 600, 10, 0.5, 0.6, 0.05, 0.15, "as it was")
    world = b.seen(store=b.store(b.collection(), evaluation=report))
    status = decide(b.migration(State.EVALUATING, spec={"evaluation": b.EVALUATION}), world, b.NOON).status
    assert (status.state, status.reason) == (State.EVALUATING, "Evaluating")


def test_traffic_waits_for_capacity() -> None:
    verdict = decide(b.migration(State.EVALUATING), b.seen(source=b.pool("old", ready=0)), b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (State.EVALUATING, "CapacityNotReady")


def test_traffic_waits_for_a_candidate_whose_probes_fail() -> None:
    world = b.seen()
    world = replace(world, probes={**world.probes, b.NEW.collection: FAILING})
    verdict = decide(b.migration(State.EVALUATING), world, b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (State.EVALUATING, "ProbesFail")


@pytest.mark.parametrize("state", [State.INDEXING, State.EVALUATING])
def test_nothing_moves_on_while_the_collection_may_lack_live_writes(state: State) -> None:
    world = b.seen(store=b.store(b.collection(verified=False)))
    verdict = decide(b.migration(state), world, b.NOON)
    assert (verdict.status.state, verdict.status.reason) == (state, "Comparing")


def test_no_weight_rises_after_capture_was_broken_until_the_collection_was_compared() -> None:
    migration = b.migration(State.CANARY, acknowledged_at=b.NOON)
    world = b.seen(b.index(10), store=b.store(b.collection(verified=False)))
    verdict = decide(migration, world, b.after(24 * 3600))
    assert (verdict.status.state, verdict.status.step, verdict.status.reason) == (State.CANARY, 0, "Comparing")


def test_the_first_step_gives_the_candidate_its_weight_after_the_status_is_written() -> None:
    verdict = decide(b.migration(State.EVALUATING), b.seen(), b.NOON)
    routing = index_effect(verdict).status.routing
    assert (verdict.before, routing.weight, routing.epoch) == ((), 10, 4)


def test_an_index_restored_from_a_backup_goes_past_the_epoch_that_gateways_know() -> None:
    world = b.seen(b.index(10))
    ahead = tuple(replace(report, epoch=9) for report in world.gateways)
    verdict = decide(b.migration(State.CANARY), replace(world, gateways=ahead), b.NOON)
    assert index_effect(verdict).status.routing.epoch == 10


def test_a_step_starts_to_hold_when_every_gateway_serves_it() -> None:
    world = b.seen(b.index(10))
    one_behind = replace(world, gateways=(world.gateways[0], replace(world.gateways[1], epoch=2)))
    waiting = decide(b.migration(State.CANARY), one_behind, b.after(600)).status
    holding = decide(b.migration(State.CANARY), world, b.after(600)).status
    assert (waiting.acknowledged_at, holding.acknowledged_at) == (None, b.after(600))


@pytest.mark.parametrize(
    ("step", "weight", "state", "next_weight"),
    [
        pytest.param(0, 10, State.CANARY, 50, id="10 to 50"),
        pytest.param(1, 50, State.CANARY, 100, id="50 to 100"),
        pytest.param(2, 100, State.RETAINING, 100, id="100 stays"),
    ],
)
def test_a_step_that_held_leads_to_the_next(step: int, weight: int, state: State, next_weight: int) -> None:
    migration, world = written(State.CANARY, step, weight)
    verdict = decide(migration, world, b.after(300))
    effects = [one.status.routing.weight for one in verdict.after if isinstance(one, SetIndexStatus)]
    assert (verdict.status.state, effects or [weight]) == (state, [next_weight])


def test_a_step_does_not_end_before_its_hold() -> None:
    migration, world = written(State.CANARY, 0, 10)
    assert decide(migration, world, b.after(299)).status.step == 0


def test_a_step_does_not_end_without_measurements() -> None:
    migration, world = written(State.CANARY, 0, 10)
    verdict = decide(migration, replace(world, arms={}), b.after(600))
    assert (verdict.status.step, verdict.status.reason) == (0, "NoData")


def test_a_step_does_not_end_while_a_trigger_runs() -> None:
    migration, world = written(State.CANARY, 0, 10)
    verdict = decide(migration, failing(world, b.NEW.collection), b.after(600))
    assert (verdict.status.state, verdict.status.step, verdict.status.reason) == (State.CANARY, 0, "ErrorRate")


@pytest.mark.parametrize("state", [State.CANARY, State.RETAINING])
def test_a_due_trigger_takes_the_traffic_back_before_the_status_is_written(state: State) -> None:
    held = {"ErrorRate": TriggerState(b.NOON, timedelta(minutes=3), b.after(8))}
    migration = b.migration(state, triggers=held, **HELD_STEP)
    verdict = decide(migration, failing(b.seen(b.index(100)), b.NEW.collection), b.after(10))
    (effect,) = verdict.before
    assert isinstance(effect, SetIndexStatus)
    assert (verdict.status.state, effect.status.routing.weight) == (State.ROLLING_BACK, 0)


def test_a_failure_that_both_sides_share_is_nobodys_rollback() -> None:
    held = {"ErrorRate": TriggerState(b.NOON, timedelta(minutes=2), b.NOON)}
    migration = b.migration(State.CANARY, triggers=held, **HELD_STEP)
    world = failing(b.seen(b.index(10)), b.NEW.collection, b.OLD.collection)
    assert decide(migration, world, b.after(2)).status.triggers["ErrorRate"].held == timedelta(minutes=2)


def test_a_weight_that_somebody_took_back_is_not_raised_again() -> None:
    migration = b.migration(State.CANARY, step=1, **HELD_STEP)
    verdict = decide(migration, b.seen(b.index(0)), b.after(10))
    assert (verdict.status.state, verdict.status.reason) == (State.ROLLING_BACK, "WeightLowered")


def test_the_pointer_follows_the_gateways() -> None:
    migration = b.migration(State.RETAINING)
    world = b.seen(b.index(100))
    behind = replace(world, gateways=(replace(world.gateways[0], weight=50), world.gateways[1]))
    assert index_effect(decide(migration, world, b.NOON)).status.plan.pointer.collection == b.NEW.collection  # type: ignore[union-attr]
    assert decide(migration, behind, b.NOON).after == ()


def test_a_rollback_is_over_when_every_gateway_and_the_store_say_so() -> None:
    told = b.migration(State.ROLLING_BACK)
    world = b.seen(b.index(0))
    withdrawn = replace(world, store=b.store(b.collection("Withdrawn")))
    cut_off = replace(withdrawn, gateways=withdrawn.gateways[:1])
    states = [decide(told, one, b.NOON).status.state for one in (world, cut_off, withdrawn)]
    assert states == [State.ROLLING_BACK, State.ROLLING_BACK, State.ROLLED_BACK]


def test_a_rolled_back_migration_lets_the_index_go() -> None:
    status = index_effect(decide(b.migration(State.ROLLED_BACK), b.seen(b.index(0)), b.NOON)).status
    assert (status.active_migration, status.routing.candidate, status.routing.serving) == (None, None, b.OLD)


def test_the_new_side_is_promoted_only_after_the_pointer_moved() -> None:
    migration = b.migration(State.RETAINING, **HELD_STEP)
    late = decide(migration, b.seen(b.index(100)), b.after(7200)).status
    assert (late.state, late.reason) == (State.RETAINING, "MovingPointer")


def test_the_old_side_is_kept_while_a_trigger_runs_at_the_end_of_the_window() -> None:
    pointer = PointerPlan(b.NEW.collection, b.NEW.fingerprint, 2)
    index = b.index(100)
    index = replace(index, status=replace(index.status, plan=replace(index.status.plan, pointer=pointer)))
    moved = b.seen(index, store=b.store(b.collection(), pointer=pointer))
    quiet, failed = (
        decide(b.migration(State.RETAINING, **HELD_STEP), one, b.after(7200)).status
        for one in (moved, failing(moved, b.NEW.collection))
    )
    assert (quiet.state, failed.state, failed.reason) == (State.PROMOTING, State.RETAINING, "ErrorRate")


def test_a_running_migration_that_is_deleted_gives_traffic_back_and_stops_its_job() -> None:
    migration = b.migration(State.CANARY, deleting=True)
    world = b.seen(b.index(50), job=JobReport("job", 2, 0, complete=False, exhausted=False))
    verdict = decide(migration, world, b.NOON)
    (lowering,) = verdict.before
    assert isinstance(lowering, SetIndexStatus)
    assert (verdict.status.state, lowering.status.routing.weight) == (State.UNWINDING, 0)
    assert DeleteJob("job") in verdict.after


def test_a_deleted_migration_drops_its_collection_before_it_goes() -> None:
    unwinding = b.migration(State.UNWINDING, deleting=True)
    dropping = index_effect(decide(unwinding, b.seen(b.index(0)), b.NOON)).status.plan.collections[-1]
    gone = decide(unwinding, b.seen(b.index(0, candidate=None), store=b.store()), b.NOON)
    assert dropping.desired is Desired.DROPPED
    assert (gone.status.state, gone.after[-1]) == (State.GONE, SetFinalizer(present=False))


def test_a_deleted_migration_whose_index_is_gone_goes_at_once() -> None:
    verdict = decide(b.migration(State.UNWINDING, deleting=True), b.seen(index=None), b.NOON)
    assert verdict.after == (SetFinalizer(present=False),)


def test_a_migration_is_taken_back_without_waiting_for_pools_that_are_gone() -> None:
    told, world = b.migration(State.ROLLING_BACK), b.seen(b.index(0), target=None, source=None)
    dropped = decide(b.migration(State.CANARY, deleting=True), replace(world, index=b.index(10)), b.NOON)
    ended = decide(told, replace(world, store=b.store(b.collection("Withdrawn"))), b.NOON)
    assert (index_effect(dropped).status.routing.weight, ended.status.state) == (0, State.ROLLED_BACK)


def test_a_state_that_takes_too_long_ends_with_what_it_waited_for() -> None:
    migration = b.migration(State.BACKFILLING, message="embedding")
    verdict = decide(migration, b.seen(store=b.store(b.collection("Filling", shards_done=1))), b.after(90_000))
    assert (verdict.status.state, verdict.status.reason) == (State.FAILED, "DeadlineExceeded")


@pytest.mark.parametrize("state", [state for state in State if state is not State.PREFLIGHT])
def test_the_same_pass_twice_decides_the_same_and_then_nothing_new(state: State) -> None:
    migration, world = b.migration(state), b.seen(b.index(0))
    first = decide(migration, world, b.NOON)
    assert first == decide(migration, world, b.NOON)
    if first.status.state is state and first.status.step == migration.status.step:
        again = decide(replace(migration, status=first.status), world, b.NOON)
        assert not worth_writing(first.status, again.status, timedelta(hours=1))


def test_a_triggers_time_is_written_each_tenth_of_its_hold() -> None:
    def held(seconds: float) -> Status:
        state = TriggerState(b.NOON, timedelta(seconds=seconds), b.NOON, hold=timedelta(minutes=3))
        return b.migration(State.CANARY, triggers={"ErrorRate": state}).status

    status, little, much = held(0), held(10), held(18)
    assert [worth_writing(status, one, timedelta(0)) for one in (little, much)] == [False, True]


def test_progress_is_written_every_few_seconds() -> None:
    migration = b.migration(State.BACKFILLING)
    embedded = replace(migration.status, backfill=Backfill(10, 100, 0, 5.0, None, "embed", "job"))
    written = [worth_writing(migration.status, embedded, timedelta(seconds=since)) for since in (1, 3)]
    assert written == [False, True]


@pytest.mark.parametrize(
    ("reason", "told", "parallelism"),
    [
        pytest.param("SourceColumnMissing", "SourceColumnMissing", 0, id="a column that was renamed"),
        pytest.param("PrivilegesMissing", "PrivilegesMissing", 0, id="a right that was taken away"),
        pytest.param("StoreUnreachable", "Embedding", 2, id="a store that does not answer is waited for by its pods"),
    ],
)
def test_pods_that_could_not_read_their_source_are_not_made_until_it_is_mended(
    reason: str, told: str, parallelism: int
) -> None:
    found = Problem(reason, "what was found")
    world = b.seen(store=b.store(b.collection("Filling", shards_done=0), problem=found))
    verdict = decide(b.migration(State.BACKFILLING), world, b.NOON)
    (job,) = (one.job for one in verdict.after if isinstance(one, ApplyJob))
    assert (verdict.status.state, verdict.status.reason, job.parallelism) == (State.BACKFILLING, told, parallelism)
