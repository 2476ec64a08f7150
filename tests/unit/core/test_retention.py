"""The old side is kept for the whole window, then let go as its user asked; what is taken back is gone for good."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core.decide import decide
from reembed.core.effects import SetIndexStatus
from reembed.core.migration import Seen, SeenIndex
from reembed.core.model import ArmMeasure, Desired, JobReport, PointerPlan, Routing
from reembed.core.transitions import State
from tests import builders as b

POINTER = PointerPlan(b.NEW.collection, b.NEW.fingerprint, 2)


def moved(index: SeenIndex) -> Seen:
    """Return a healthy world whose pointer names the candidate."""
    pointed = replace(index.status, plan=replace(index.status.plan, pointer=POINTER))
    return b.seen(replace(index, status=pointed), store=b.store(b.collection(), pointer=POINTER))


@pytest.mark.parametrize(
    ("minutes", "promoted", "state"),
    [
        pytest.param(59, "", State.RETAINING, id="a minute before its end"),
        pytest.param(60, "", State.PROMOTING, id="at its end"),
        pytest.param(59, "1/Retaining", State.PROMOTING, id="somebody wants no more of it"),
        pytest.param(59, "1/Canary/2", State.RETAINING, id="somebody wanted no more of the step before"),
    ],
)
def test_the_way_back_is_kept_open_for_the_whole_window(minutes: int, promoted: str, state: State) -> None:
    migration = b.migration(State.RETAINING, acknowledged_at=b.NOON, weight=100, promoted=promoted)
    assert decide(migration, moved(b.index(100)), b.after(60 * minutes)).status.state is state


def test_the_window_begins_when_every_gateway_serves_the_new_side() -> None:
    world = moved(b.index(100))
    late = replace(world, gateways=(replace(world.gateways[0], weight=50), world.gateways[1]))
    waiting = decide(b.migration(State.RETAINING, weight=100), late, b.after(7200)).status
    begun = decide(b.migration(State.RETAINING, weight=100), world, b.after(7200)).status
    found = [(one.state, one.acknowledged_at) for one in (waiting, begun)]
    assert found == [(State.RETAINING, None), (State.RETAINING, b.after(7200))]


@pytest.mark.parametrize(("drop", "desired"), [(False, Desired.WITHDRAWN), (True, Desired.DROPPED)])
def test_the_old_collection_is_dropped_only_where_its_user_asked_for_it(drop: bool, desired: Desired) -> None:
    world = moved(b.index(0, routing=Routing(9, serving=b.NEW)))
    verdict = decide(b.migration(State.PROMOTING, spec={"drop": drop}), world, b.NOON)
    (effect,) = [one for one in verdict.after if isinstance(one, SetIndexStatus)]
    assert {one.name: one.desired for one in effect.status.plan.collections}[b.OLD.collection] is desired


@pytest.mark.parametrize("state", [State.ROLLING_BACK, State.UNWINDING])
def test_nothing_is_taken_back_for_good_while_pods_of_the_backfill_may_still_write(state: State) -> None:
    job = JobReport("reembed-backfill-move", active=1, failed=0, complete=False, exhausted=False)
    world = b.seen(b.index(0), store=b.store(b.collection("Withdrawn")), job=job)
    status = decide(b.migration(state, deleting=state is State.UNWINDING), world, b.NOON).status
    waiting = "Job reembed-backfill-move is deleted; waiting until it and its pods are gone"
    assert (status.state, status.waiting) == (state, waiting)


@pytest.mark.parametrize(
    ("probes", "reason"),
    [pytest.param(2, "Probing", id="two are too few"), pytest.param(3, "Evaluated", id="three are enough")],
)
def test_a_side_that_hardly_anybody_asked_is_not_known_to_answer(probes: int, reason: str) -> None:
    world = b.seen()
    asked = ArmMeasure(requests=probes, errors=0, p95=timedelta(milliseconds=40))
    world = replace(world, probes={**world.probes, b.NEW.collection: asked})
    assert decide(b.migration(State.EVALUATING), world, b.NOON).status.reason == reason
