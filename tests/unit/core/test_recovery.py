"""What somebody's hand took away is found again: an emptied status in the store, a vanished holder in the plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reembed.core.decide import decide
from reembed.core.desired import lost
from reembed.core.effects import SetIndexStatus, effects
from reembed.core.fingerprint import of_collection
from reembed.core.migration import Migration, SeenIndex
from reembed.core.model import (
    Arm,
    Chunking,
    CollectionPlan,
    Desired,
    GatewayReport,
    Holder,
    IndexStatus,
    PointerPlan,
    Problem,
    Routing,
    StorePlan,
)
from reembed.core.names import collection
from reembed.core.recovery import in_place_of, rebuilt
from reembed.core.transitions import State
from tests import builders as b

EMPTIED = replace(b.index(), status=IndexStatus())
POOLS = {b.OLD.fingerprint: "old", b.NEW.fingerprint: "new"}
HOLDER = Holder("move", "uid-move")
NEW_STORE = replace(b.store(pointer=None), collections=())


def test_an_emptied_status_is_rebuilt_from_the_store_above_every_epoch_that_gateways_know() -> None:
    gateways = (GatewayReport("a", 9, 0, b.OLD, None), GatewayReport("b", 8, 0, b.OLD, None))
    found = rebuilt(EMPTIED, b.store(b.collection("Filling")), POOLS, gateways)
    plan = StorePlan(
        (
            CollectionPlan(b.OLD.collection, "old", b.OLD.fingerprint, 384, 8, Desired.INDEXED),
            CollectionPlan(b.NEW.collection, "new", b.NEW.fingerprint, 384, 8, Desired.PRESENT),
        ),
        PointerPlan(b.OLD.collection, b.OLD.fingerprint, 1),
    )
    assert found == IndexStatus(None, Routing(10, b.OLD), plan)


def test_a_collection_in_parts_is_found_by_its_models_pool() -> None:
    cut = replace(b.OLD, fingerprint=of_collection(b.OLD.fingerprint, Chunking(128, 16)))
    known = replace(b.collection("Indexed"), name=cut.collection, fingerprint=cut.fingerprint)
    store = replace(b.store(known), pointer=PointerPlan(cut.collection, cut.fingerprint, 1), collections=(known,))
    found = rebuilt(EMPTIED, store, POOLS, ())
    assert isinstance(found, IndexStatus)
    assert (found.routing.serving, found.plan.collections[0].pool) == (cut, "old")


def test_an_emptied_status_whose_model_no_pool_has_says_so() -> None:
    found = rebuilt(EMPTIED, b.store(), {}, ())
    assert isinstance(found, Problem)
    assert (found.reason, "Create the pool again" in found.message) == ("StatusLost", True)


def test_a_new_index_has_nothing_to_rebuild() -> None:
    assert rebuilt(EMPTIED, NEW_STORE, POOLS, ()) is None


@pytest.mark.parametrize(
    ("gateways", "routing"),
    [
        pytest.param((), Routing(1), id="nothing answers yet"),
        pytest.param((GatewayReport("a", 3, 0, b.NEW, None),), Routing(4, b.NEW), id="what was filled answers already"),
        pytest.param((GatewayReport("a", 3, 0, b.OLD, None),), Routing(4), id="a gateway of an index of that name"),
    ],
)
def test_of_a_first_fill_the_plan_is_rebuilt_and_gateways_say_what_answers(
    gateways: tuple[GatewayReport, ...], routing: Routing
) -> None:
    store = replace(NEW_STORE, collections=(b.collection("Filling"),))
    plan = StorePlan((CollectionPlan(b.NEW.collection, "new", b.NEW.fingerprint, 384, 8, Desired.PRESENT),), None)
    assert rebuilt(EMPTIED, store, POOLS, gateways) == IndexStatus(None, routing, plan)


def test_nothing_is_rebuilt_from_a_store_that_cannot_be_read() -> None:
    unread = b.store(problem=Problem("StoreUnreachable", "no route to host"))
    assert rebuilt(EMPTIED, unread, POOLS, ()) is None


def test_an_index_with_a_plan_was_not_emptied() -> None:
    """A first fill that failed leaves no epoch, and a collection that is being withdrawn."""
    withdrawn = CollectionPlan(b.NEW.collection, "new", b.NEW.fingerprint, 384, 8, Desired.WITHDRAWN)
    assert not lost(replace(EMPTIED, status=IndexStatus(plan=StorePlan((withdrawn,)))))


def unwound(index: SeenIndex) -> tuple[Migration, IndexStatus]:
    stand_in = in_place_of(HOLDER, index, b.NOON)
    (effect,) = [
        one
        for verdict in [decide(stand_in, b.seen(index, store=b.store()), b.NOON)]
        for one in (*verdict.before, *verdict.after)
        if isinstance(one, SetIndexStatus)
    ]
    return stand_in, effect.status


@pytest.mark.parametrize("weight", [10, 100])
def test_a_vanished_holders_weight_goes_back_to_zero_first_of_all(weight: int) -> None:
    index = b.index(weight)
    stand_in, status = unwound(index)
    assert (stand_in.status.state, status.routing) == (State.UNWINDING, Routing(4, b.OLD, b.NEW, 0))
    assert status.plan.collections == index.status.plan.collections


def test_a_vanished_holders_collection_is_dropped_when_no_gateway_asks_it() -> None:
    assert unwound(b.index(0))[1].plan.collections[-1].desired is Desired.DROPPED


def test_a_collection_that_came_after_it_was_given_up_is_dropped_all_the_same() -> None:
    """The store worker read the plan before, and made it after the plan had forgotten it."""
    index = b.index(0)
    forgotten = replace(index.status.plan, collections=index.status.plan.collections[:-1])
    index = replace(index, status=replace(index.status, plan=forgotten))
    stand_in, late = in_place_of(HOLDER, index, b.NOON), b.store(b.collection("Filling"))
    (effect,) = effects(stand_in, b.seen(index, store=late))[1]
    assert isinstance(effect, SetIndexStatus)
    assert [(one.name, one.desired) for one in effect.status.plan.collections] == [
        (b.OLD.collection, Desired.INDEXED),
        (b.NEW.collection, Desired.DROPPED),
    ]


def test_what_a_vanished_holder_was_filling_is_found_in_the_plan() -> None:
    filling = b.index(0)
    filling = replace(filling, status=replace(filling.status, routing=Routing(3, b.OLD)))
    assert in_place_of(HOLDER, filling, b.NOON).status.candidate == Arm(
        "new", collection("uid-move", 1), b.NEW.fingerprint
    )


def test_what_a_vanished_holder_promoted_goes_on_to_serve() -> None:
    pointer = PointerPlan(b.NEW.collection, b.NEW.fingerprint, 2)
    index = b.index(0)
    promoted = replace(index.status, routing=Routing(9, b.NEW), plan=replace(index.status.plan, pointer=pointer))
    _, status = unwound(replace(index, status=promoted))
    assert status == replace(promoted, active_migration=None)
