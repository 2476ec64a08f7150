"""Traffic moves only onto what is there and answers, by every gateway's own word, and back only to what is alive."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core import traffic
from reembed.core.conditions import of_migration
from reembed.core.decide import Verdict, decide
from reembed.core.desired import index_status
from reembed.core.effects import SetIndexStatus
from reembed.core.hooks import Hook, HttpHook, On
from reembed.core.migration import Migration, Seen
from reembed.core.model import (
    Approval,
    Arm,
    ArmMeasure,
    Desired,
    Limit,
    Limits,
    NoData,
    PointerPlan,
    Problem,
    RefusedRaise,
    Routing,
    Step,
    TriggerState,
)
from reembed.core.transitions import FINISHED, State
from reembed.core.triggers import Finding
from tests import builders as b

FAILING = ArmMeasure(requests=200, errors=160, p95=timedelta(milliseconds=40))
SLOW = ArmMeasure(requests=200, errors=0, p95=timedelta(seconds=2))
OLD, NEW = b.OLD.collection, b.NEW.collection
DUE = {"ErrorRate": TriggerState(b.NOON, timedelta(minutes=3), b.after(298))}


def measured(world: Seen, **arms: ArmMeasure) -> Seen:
    names = {"new": NEW, "old": OLD}
    return replace(world, arms={**world.arms, **{names[side]: arm for side, arm in arms.items()}})


def probed(world: Seen, **arms: ArmMeasure) -> Seen:
    names = {"new": NEW, "old": OLD}
    return replace(world, probes={**world.probes, **{names[side]: arm for side, arm in arms.items()}})


def withholding(world: Seen) -> Seen:
    return replace(world, gateways=(world.gateways[0], replace(world.gateways[1], weight=0)))


def silent(world: Seen) -> Seen:
    return replace(world, gateways=world.gateways[:1])


def told(verdict: Verdict) -> int | None:
    """Return the weight that the pass wrote, None if it wrote no routing."""
    found = [one for one in (*verdict.before, *verdict.after) if isinstance(one, SetIndexStatus)]
    return found[0].status.routing.weight if found else None


def window_ended() -> tuple[Migration, Seen]:
    """Return a migration whose retention window is over, in a world where all is well."""
    store = b.store(b.collection(), pointer=PointerPlan(NEW, b.NEW.fingerprint, 2))
    index = b.index(100)
    plan = replace(index.status.plan, pointer=store.pointer)
    index = replace(index, status=replace(index.status, plan=plan))
    return b.migration(State.RETAINING, acknowledged_at=b.NOON), b.seen(index, store=store)


def canary(**changes: object) -> Migration:
    return b.migration(State.CANARY, **{"acknowledged_at": b.NOON, **changes})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(withholding, "GatewaysWithhold", id="a gateway keeps the old side"),
        pytest.param(silent, "GatewaysSilent", id="a gateway does not answer"),
        pytest.param(lambda seen: replace(seen, target=b.pool("new", ready=0)), "CapacityNotReady", id="no pods"),
        pytest.param(lambda seen: replace(seen, arms={}), "NoData", id="nothing measured"),
        pytest.param(lambda seen: probed(seen, new=FAILING), "ProbesFail", id="probes fail"),
        pytest.param(lambda seen: replace(seen, gateways=(), gateway_pods=()), "GatewayMissing", id="no gateway"),
    ],
)
def test_the_end_of_the_window_promotes_nothing_that_could_not_get_traffic(change: object, reason: str) -> None:
    migration, world = window_ended()
    status = decide(migration, change(world), b.after(7200)).status  # type: ignore[operator]
    assert (status.state, status.reason) == (State.RETAINING, reason)


def test_the_end_of_the_window_does_not_need_the_old_side_alive() -> None:
    migration, world = window_ended()
    dead = measured(probed(replace(world, source=None), old=FAILING), old=FAILING)
    assert decide(migration, dead, b.after(7200)).status.state is State.PROMOTING


@pytest.mark.parametrize(
    "dead",
    [
        pytest.param(lambda seen: replace(seen, source=b.pool("old", ready=0)), id="no pod is ready"),
        pytest.param(lambda seen: probed(seen, old=FAILING), id="its probes fail"),
    ],
)
@pytest.mark.parametrize("state", [State.CANARY, State.RETAINING])
def test_a_candidate_that_limps_keeps_its_queries_while_the_old_side_is_dead(dead: object, state: State) -> None:
    migration = b.migration(state, triggers=DUE, acknowledged_at=b.NOON, step=2)
    world = measured(b.seen(b.index(100)), new=FAILING)
    held = decide(migration, dead(world), b.after(300))  # type: ignore[operator]
    back = decide(migration, world, b.after(300))
    assert (held.status.state, held.status.reason, told(held) or 100) == (state, "NowhereToGo", 100)
    assert (back.status.state, told(back)) == (State.ROLLING_BACK, 0)
    degraded = next(one for one in of_migration(held.status) if one.type == "Degraded")
    assert (degraded.status, degraded.reason) == (True, "NowhereToGo")


def test_a_deadline_does_not_send_queries_to_a_dead_side() -> None:
    late = b.after(3600 * 25)
    verdict = decide(canary(), b.seen(b.index(10), source=b.pool("old", ready=0)), late)
    assert (verdict.status.state, verdict.status.reason) == (State.CANARY, "NowhereToGo")


def test_a_weight_that_somebody_lowered_is_followed_wherever_it_leads() -> None:
    verdict = decide(canary(step=1), b.seen(b.index(10), source=b.pool("old", ready=0)), b.after(10))
    assert (verdict.status.state, verdict.status.reason) == (State.ROLLING_BACK, "WeightLowered")


@pytest.mark.parametrize(
    ("reason", "arm", "no_data"),
    [
        pytest.param("ErrorRate", FAILING, NoData.HOLD, id="errors"),
        pytest.param("Latency", SLOW, NoData.HOLD, id="latency"),
        pytest.param("ErrorRate", FAILING, NoData.ROLL_BACK, id="errors, where missing data counts"),
        pytest.param("Latency", SLOW, NoData.ROLL_BACK, id="latency, where missing data counts"),
    ],
)
def test_what_fails_on_both_sides_moves_nothing(reason: str, arm: ArmMeasure, no_data: NoData) -> None:
    limits = Limits(
        error_rate=Limit(timedelta(minutes=3), share=0.05, no_data=no_data),
        latency=Limit(timedelta(minutes=2), factor=10.0, no_data=no_data),
    )
    before = {reason: TriggerState(b.NOON, timedelta(seconds=60), b.after(298))}
    migration = canary(spec={"limits": limits}, triggers=before)
    status = decide(migration, measured(b.seen(b.index(10)), new=arm, old=arm), b.after(300)).status
    assert (status.state, status.step, status.reason) == (State.CANARY, 0, "SharedFailure")
    assert status.triggers[reason].held == timedelta(seconds=60)


def test_answers_that_neither_side_gives_are_no_missing_data() -> None:
    """With the database gone nothing is answered, so that no latency is measured: that is not the candidate's."""
    limits = Limits(latency=Limit(timedelta(minutes=2), factor=10.0, no_data=NoData.ROLL_BACK))
    before = {"Latency": TriggerState(b.NOON, timedelta(seconds=119), b.after(298))}
    gone = ArmMeasure(requests=100, errors=100, p95=None)
    world = measured(b.seen(b.index(10)), new=gone, old=gone)
    status = decide(canary(spec={"limits": limits}, triggers=before), world, b.after(300)).status
    assert (status.state, status.reason) == (State.CANARY, "SharedFailure")
    assert status.triggers["Latency"].held == timedelta(seconds=119)


def test_missing_data_means_nothing_before_there_is_traffic() -> None:
    strict = Limits(latency=Limit(timedelta(minutes=2), factor=10.0, no_data=NoData.ROLL_BACK))
    migration = b.migration(State.EVALUATING, spec={"limits": strict})
    assert decide(migration, b.seen(arms={}), b.NOON).status.triggers == {}


def test_a_weight_that_was_not_written_yet_is_not_raised_onto_what_broke_meanwhile() -> None:
    migration = b.migration(State.CANARY, step=1)
    broken = decide(migration, b.seen(b.index(10), target=b.pool("new", ready=0)), b.after(3600))
    whole = decide(migration, b.seen(b.index(10)), b.after(3600))
    assert (broken.status.reason, told(broken)) == ("CapacityNotReady", None)
    assert (whole.status.reason, told(whole)) == ("WaitingForGateways", 50)


def test_a_trigger_that_runs_keeps_traffic_from_starting() -> None:
    world = b.seen(target=b.pool("new", memory=0.95))
    status = decide(b.migration(State.EVALUATING), world, b.NOON).status
    assert (status.state, status.reason) == (State.EVALUATING, "MemoryPressure")


def test_a_step_whose_weight_gateways_withhold_is_held_anew() -> None:
    world = b.seen(b.index(10))
    stopped = decide(canary(), withholding(world), b.after(290)).status
    again = decide(replace(canary(), status=stopped), world, b.after(320)).status
    assert (stopped.reason, stopped.acknowledged_at, again.reason, again.acknowledged_at) == (
        "GatewaysWithhold",
        None,
        "Holding",
        b.after(320),
    )


def test_a_gateway_that_restarts_within_a_step_does_not_start_it_anew_but_is_waited_for() -> None:
    world = b.seen(b.index(10))
    during = decide(canary(), silent(world), b.after(100)).status
    at_the_end = decide(canary(), silent(world), b.after(300)).status
    assert (during.acknowledged_at, during.reason, at_the_end.reason) == (b.NOON, "Holding", "GatewaysSilent")


def test_no_gateway_at_all_is_nobodys_word() -> None:
    assert not traffic.acknowledged(b.seen(gateways=(), gateway_pods=()))


def test_where_no_gateway_runs_nobody_keeps_a_rollback_waiting() -> None:
    world = b.seen(b.index(0), gateways=(), gateway_pods=(), store=b.store(b.collection("Withdrawn")))
    assert decide(b.migration(State.ROLLING_BACK), world, b.NOON).status.state is State.ROLLED_BACK


def test_a_promotion_whose_index_is_gone_is_over() -> None:
    states = [decide(b.migration(State.PROMOTING), world, b.NOON).status.state for world in (b.seen(index=None),)]
    assert states == [State.SUCCEEDED]


def test_a_promoted_migration_that_is_deleted_does_not_wait_for_a_dead_store_for_ever() -> None:
    index = b.index(0, routing=Routing(9, serving=b.NEW))
    world = b.seen(index, store=None)
    migration = b.migration(State.PROMOTING, deleting=True)
    found = [decide(migration, world, b.after(seconds)).status for seconds in (299, 301)]
    assert [(one.state, one.reason) for one in found] == [
        (State.PROMOTING, "MovingPointer"),
        (State.SUCCEEDED, "PromotedUnconfirmed"),
    ]


@pytest.mark.parametrize(
    ("world", "waits_for"),
    [
        pytest.param(
            silent(b.seen(b.index(0))),
            "gateway pods b do not answer; see their logs, and delete a pod whose node is gone",
            id="gateway",
        ),
        pytest.param(b.seen(b.index(0)), f"the store worker withdraws collection {NEW}", id="store worker"),
        pytest.param(
            b.seen(b.index(0), store=b.store(problem=Problem("StoreUnreachable", "no answer"))), "no answer", id="store"
        ),
        pytest.param(
            b.seen(b.index(0), store=None),
            "the store worker does not answer; see the log of its Deployment",
            id="no store worker",
        ),
    ],
)
def test_a_rollback_says_for_whom_it_waits_and_keeps_its_reason(world: Seen, waits_for: str) -> None:
    migration = b.migration(State.ROLLING_BACK, reason="ErrorRate", message="8 % failed")
    status = decide(migration, world, b.after(10)).status
    assert (status.state, status.reason, status.message, status.waiting) == (
        State.ROLLING_BACK,
        "ErrorRate",
        "8 % failed",
        waits_for,
    )


def test_a_rollback_is_over_when_the_lease_of_a_silent_gateway_is_but_its_collection_waits_for_its_word() -> None:
    world = silent(b.seen(b.index(0), store=b.store(b.collection())))
    early, late = (decide(b.migration(State.ROLLING_BACK), world, b.after(seconds)) for seconds in (44, 46))
    assert (early.status.state, late.status.state) == (State.ROLLING_BACK, State.ROLLED_BACK)
    assert [entry.desired for entry in index_written(late).plan.collections] == [Desired.INDEXED, Desired.INDEXED]


def test_a_rolled_back_migration_withdraws_its_collection_once_no_gateway_knows_it() -> None:
    index = b.index(0, held=False)
    index = replace(index, status=replace(index.status, routing=Routing(5, serving=b.OLD)))
    told_all = b.seen(index)
    quiet = decide(b.migration(State.ROLLED_BACK), silent(told_all), b.NOON)
    heard = decide(b.migration(State.ROLLED_BACK), told_all, b.NOON)
    assert (told(quiet), quiet.look_again) == (None, timedelta(seconds=30))
    assert index_written(heard).plan.collections[-1].desired is Desired.WITHDRAWN


def test_a_deleted_migration_gives_up_on_a_gateway_that_never_answers_and_says_what_it_left() -> None:
    migration, world = b.migration(State.UNWINDING, deleting=True), silent(b.seen(b.index(0)))
    migration = replace(migration, status=replace(migration.status, timeline=canary().status.timeline))
    early, late = (decide(migration, world, b.after(seconds)).status for seconds in (299, 301))
    assert (early.state, late.state, late.reason) == (State.UNWINDING, State.GONE, "LeftBehind")
    assert late.message.endswith(f"collection {NEW} may stay in the store")


def index_written(verdict: Verdict) -> object:
    found = [one for one in (*verdict.before, *verdict.after) if isinstance(one, SetIndexStatus)]
    return found[0].status


def test_a_step_is_held_anew_after_all_gateways_were_gone() -> None:
    migration = b.migration(State.CANARY, acknowledged_at=b.NOON, weight=10)
    gone = decide(migration, b.seen(b.index(10), gateways=(), gateway_pods=()), b.after(200)).status
    back = decide(replace(migration, status=gone), b.seen(b.index(10)), b.after(400)).status
    assert (gone.reason, gone.acknowledged_at) == ("GatewayMissing", None)
    assert (back.step, back.reason, back.acknowledged_at) == (0, "Holding", b.after(400))


APPROVED = (Step(10, timedelta(minutes=5), Approval.REQUIRED), Step(100, timedelta(minutes=5)))
HOOKED = (Hook("warm", On.EACH_STEP, timedelta(minutes=1), http=HttpHook("https://cache/warm")),)


@pytest.mark.parametrize(
    ("changes", "change"),
    [
        pytest.param({}, lambda seen: seen, id="holding"),
        pytest.param({"acknowledged_at": None}, lambda seen: seen, id="not every gateway follows yet"),
        pytest.param({"spec": {"steps": APPROVED}}, lambda seen: seen, id="awaiting approval"),
        pytest.param({"spec": {"hooks": HOOKED}}, lambda seen: seen, id="a hook runs"),
        pytest.param({"spec": {"paused": True}}, lambda seen: seen, id="paused in the manifest"),
        pytest.param({"paused": True}, lambda seen: seen, id="paused by command"),
        pytest.param({"spec": {"evaluation": b.EVALUATION}}, lambda seen: seen, id="another trigger has no data"),
        pytest.param({}, silent, id="a gateway does not answer"),
        pytest.param({}, withholding, id="a gateway gives the candidate less"),
        pytest.param({}, lambda seen: replace(seen, gateways=(), gateway_pods=()), id="no gateway"),
        pytest.param({}, lambda seen: replace(seen, store=None), id="no store worker"),
        pytest.param({}, lambda seen: replace(seen, target=None), id="the candidate's pool is gone"),
    ],
)
@pytest.mark.parametrize(("state", "step", "weight"), [(State.CANARY, 0, 10), (State.RETAINING, 1, 100)])
def test_a_due_trigger_takes_the_queries_back_whatever_else_is_waited_for(
    changes: dict[str, object], change: object, state: State, step: int, weight: int
) -> None:
    migration = b.migration(state, **{"acknowledged_at": b.NOON, "step": step, "triggers": DUE, **changes})
    world = change(measured(b.seen(b.index(weight)), new=FAILING))  # type: ignore[operator]
    verdict = decide(migration, world, b.after(300))
    assert (verdict.status.state, verdict.status.reason, told(verdict)) == (State.ROLLING_BACK, "ErrorRate", 0)


RUNNING = [state for state in State if state not in FINISHED | {State.ROLLING_BACK, State.UNWINDING}]


@pytest.mark.parametrize("state", RUNNING)
def test_triggers_are_watched_in_every_state_until_it_is_decided(state: State) -> None:
    short = b.seen(b.index(0), target=b.pool("new", memory=0.95))
    status = decide(b.migration(state, paused=True), short, b.NOON).status
    assert (status.state, set(status.triggers)) == (state, {"MemoryPressure"})


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize(
    ("state", "step", "weight"), [(State.EVALUATING, 0, 0), (State.CANARY, 0, 10), (State.CANARY, 1, 50)]
)
def test_no_raise_while_one_pod_of_either_side_is_missing(state: State, step: int, weight: int, side: str) -> None:
    short = b.pool({"source": "old", "target": "new"}[side], ready=1, desired_replicas=2)
    migration = b.migration(state, step=step, acknowledged_at=b.NOON)
    verdict = decide(migration, b.seen(b.index(weight), **{side: short}), b.after(600))
    assert (verdict.status.state, verdict.status.step, verdict.status.reason, told(verdict)) == (
        state,
        step,
        "CapacityNotReady",
        None,
    )


def kept(migration: Migration, world: Seen) -> Desired:
    """Return what the pass wants of the old collection."""
    assert world.index is not None
    return index_status(migration, world.index, world).plan.collections[0].desired


def test_the_old_collection_answers_until_every_gateway_says_that_it_serves_the_new_one() -> None:
    pointer = PointerPlan(NEW, b.NEW.fingerprint, 2)
    index = b.index(0, routing=Routing(9, serving=b.NEW))
    index = replace(index, status=replace(index.status, plan=replace(index.status.plan, pointer=pointer)))
    world, migration = b.seen(index), b.migration(State.PROMOTING)
    behind = replace(world, gateways=(world.gateways[0], replace(world.gateways[1], epoch=8)))
    found = [kept(migration, one) for one in (silent(world), behind, world)]
    assert found == [Desired.INDEXED, Desired.INDEXED, Desired.WITHDRAWN]


@pytest.mark.parametrize("state", [state for state in State if state not in {State.PROMOTING, State.SUCCEEDED}])
def test_the_old_collection_is_left_as_it_is_in_every_state_before_promotion(state: State) -> None:
    assert kept(b.migration(state), b.seen(b.index(0))) is Desired.INDEXED


def test_a_weight_is_not_raised_while_somebody_says_to_pause() -> None:
    """The step was decided before the pause, and its weight could not be written."""
    verdict = decide(b.migration(State.CANARY, step=1, spec={"paused": True}), b.seen(b.index(10)), b.after(10))
    assert (verdict.status.reason, told(verdict)) == ("Paused", None)


def test_the_gateway_of_another_index_acknowledges_nothing() -> None:
    """The address of a pod whose node is gone may be another one's by now."""
    theirs = Arm("theirs", "c_theirs", "fp-theirs")
    world = b.seen(b.index(10))
    world = replace(world, gateways=(world.gateways[0], replace(world.gateways[1], serving=theirs, candidate=b.NEW)))
    assert (traffic.acknowledged(world), traffic.acknowledged(b.seen(b.index(10)))) == (False, True)


def test_what_gateways_refuse_for_want_of_a_certificate_is_told() -> None:
    world = b.seen(b.index(10))
    epoch = world.gateways[0].epoch
    refused = RefusedRaise(epoch, "QuorumMissing", "5 members signed for it")
    stale = RefusedRaise(epoch - 1, "CertificateMissing", "of before")
    one, two = world.gateways
    world = replace(
        world, gateways=(replace(one, refused=stale), replace(two, epoch=epoch - 1, weight=0, refused=refused))
    )
    text = f"gateway pods {two.pod} do not follow epoch {epoch} (QuorumMissing): 5 members signed for it"
    assert traffic.behind(world) == Finding("CertificateRefused", text)
