"""Going back to what serves is always obeyed; traffic for a candidate needs a recent and latest reading."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.core.acceptance import Acceptance, Accepted
from reembed.core.model import PanelRef, Routing
from reembed.gateway.lease import UNWATCHED, Leader, Lease, Reading, changed, effective, renewed, seen
from tests.fixtures.arms import NEW, OLD

CANARY = Routing(epoch=7, serving=OLD, candidate=NEW, weight=50, shadow=0.05)
# What is left of it where nobody answers for the candidate: it is asked nothing, not even by shadow queries.
ALONE = replace(CANARY, weight=0, shadow=0.0)
PROMOTED = Routing(epoch=9, serving=NEW)


def reading(routing: Routing, *, force_stable: bool = False, uid: str = "uid-1") -> Reading:
    return Reading(uid, routing, force_stable)


def held(routing: Routing = CANARY, *, force_stable: bool = False) -> Lease:
    return Lease("uid-1", routing, force_stable, answered=100.0)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(replace(CANARY, epoch=8, weight=100), replace(CANARY, epoch=8, weight=100), id="a raise"),
        pytest.param(replace(CANARY, epoch=8, weight=0), replace(CANARY, epoch=8, weight=0), id="a roll-back"),
        pytest.param(PROMOTED, PROMOTED, id="the candidate becomes what serves"),
        pytest.param(replace(CANARY, epoch=6, weight=100), CANARY, id="an overtaken raise is ignored"),
        pytest.param(
            replace(CANARY, epoch=6, weight=10), replace(CANARY, weight=10), id="an overtaken lowering is obeyed"
        ),
        pytest.param(Routing(epoch=3, serving=OLD), ALONE, id="an overtaken routing without our candidate"),
        pytest.param(
            Routing(epoch=3, serving=NEW, candidate=OLD, weight=90),
            ALONE,
            id="an overtaken routing of other arms gives our candidate nothing",
        ),
    ],
)
def test_what_a_reading_makes_of_the_routing(told: Routing, expected: Routing) -> None:
    assert changed(held(), reading(told)).routing == expected


def test_a_lowering_by_an_old_copy_ends_when_the_latest_is_read_again() -> None:
    lowered = changed(held(), reading(replace(CANARY, epoch=6, weight=10)))
    assert changed(lowered, reading(CANARY)) == held()


def test_an_old_copy_cannot_lift_the_annotation() -> None:
    forced = held(force_stable=True)
    assert changed(forced, reading(replace(CANARY, epoch=6))).force_stable


def test_an_old_copy_can_set_the_annotation() -> None:
    assert changed(held(), reading(replace(CANARY, epoch=6), force_stable=True)).force_stable


@pytest.mark.parametrize(("epoch", "forced"), [(6, True), (7, False)])
def test_an_old_copy_cannot_lift_the_annotation_of_an_index_with_a_panel(*, epoch: int, forced: bool) -> None:
    panel = PanelRef("reembed-panel", "panel", "a" * 64)
    state = Acceptance(known=True, accepted=Accepted(replace(CANARY, shadow=0.0)))
    told = Reading("uid-1", replace(CANARY, epoch=epoch), panel=panel)
    assert changed(replace(held(force_stable=True), acceptance=state), told).force_stable is forced


def test_epochs_begin_anew_with_another_object_of_the_same_name() -> None:
    fresh = Routing(epoch=1, serving=OLD)
    assert changed(held(), reading(fresh, uid="uid-2")).routing == fresh


def test_a_deleted_index_goes_on_with_what_serves() -> None:
    assert changed(held(), None).routing == Routing(epoch=7, serving=OLD)


def test_only_an_answered_reading_prolongs_the_lease() -> None:
    assert renewed(held(), reading(CANARY), 110.0).answered == 110.0
    assert changed(held(), reading(CANARY)).answered == 100.0


@pytest.mark.parametrize(
    ("lease", "now", "expected"),
    [
        pytest.param(held(), 129.9, CANARY, id="within the lease"),
        pytest.param(held(), 130.0, ALONE, id="thirty seconds without an answer"),
        pytest.param(held(force_stable=True), 101.0, ALONE, id="the annotation"),
        pytest.param(replace(held(), answered=None), 101.0, ALONE, id="only the watch ever told of it"),
        pytest.param(
            replace(held(replace(CANARY, weight=0)), answered=None),
            101.0,
            ALONE,
            id="shadow queries end without a weight",
        ),
    ],
)
def test_the_weight_in_force(lease: Lease, now: float, expected: Routing) -> None:
    assert effective(lease, now) == expected


ROUTINGS = st.builds(
    Routing,
    epoch=st.integers(0, 9),
    serving=st.just(OLD),
    candidate=st.sampled_from([None, NEW]),
    weight=st.sampled_from([0, 10, 50, 100]),
)


@given(st.lists(ROUTINGS, min_size=1, max_size=20))
def test_no_order_of_readings_gives_more_than_the_latest_epoch_seen_does(told: list[Routing]) -> None:
    lease = Lease()
    for routing in told:
        lease = renewed(lease, reading(routing), 0.0)
    assert lease.routing.epoch == max(routing.epoch for routing in told)
    latest = [routing for routing in told if routing.epoch == lease.routing.epoch][-1]
    assert lease.routing.weight <= latest.weight
    assert lease.routing.candidate == latest.candidate


@pytest.mark.parametrize(
    ("leader", "expected"),
    [
        pytest.param(UNWATCHED, CANARY, id="told of no operator's lease"),
        pytest.param(Leader("7", -18.9), CANARY, id="renewed within two minutes"),
        pytest.param(Leader("7", -19.0), ALONE, id="not renewed for two minutes"),
        pytest.param(Leader("7"), ALONE, id="seen once, and whether anybody renews it is not known"),
        pytest.param(Leader(), ALONE, id="never read"),
    ],
)
def test_a_candidate_is_asked_only_while_an_operator_leads(leader: Leader, expected: Routing) -> None:
    assert effective(held(), 101.0, leader) == expected


def test_what_serves_needs_no_operator() -> None:
    assert effective(held(PROMOTED), 101.0, Leader()) == PROMOTED


@pytest.mark.parametrize(
    ("before", "version", "after"),
    [
        pytest.param(Leader(), "7", Leader("7"), id="the first look"),
        pytest.param(Leader("7"), "7", Leader("7"), id="nobody renewed it"),
        pytest.param(Leader("7"), "8", Leader("8", 5.0), id="renewed"),
        pytest.param(Leader("8", 3.0), "8", Leader("8", 3.0), id="not renewed since"),
        pytest.param(Leader("8", 3.0), None, Leader("8", 3.0), id="not readable, or not there"),
    ],
)
def test_the_operator_s_lease_counts_from_its_last_change_that_was_seen(
    before: Leader, version: str | None, after: Leader
) -> None:
    assert seen(before, version, 5.0) == after
