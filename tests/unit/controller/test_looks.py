"""A pass decides by the last look; what pods said before something changed is not believed after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from reembed.controller.looks import Around, Look, Looks, period
from reembed.controller.scrape import Sample
from reembed.core.measures import ARM_REQUESTS, PROCESS
from reembed.core.transitions import State
from reembed.core.triggers import INTERVAL
from tests import builders as b

MIGRATION = b.migration(State.CANARY)
PERIOD = period(MIGRATION.meta.uid).total_seconds()


class Gateway:
    """The only pod there is; it counts how often it is asked what it serves."""

    def __init__(self, epoch: int = 3) -> None:
        self.epoch = epoch
        self.asked = 0
        self.while_asked: Callable[[], object] = lambda: None

    async def json(self, addresses: Mapping[str, str], path: str) -> dict[str, Any]:
        if path != "/v1/index":
            return {}
        self.asked += 1
        self.while_asked()
        return {pod: {"epoch": self.epoch, "weight": 10} for pod in addresses}

    async def metrics(self, addresses: Mapping[str, str]) -> dict[str, list[Sample]]:
        return {}

    async def put(self, addresses: Mapping[str, str], path: str, body: Mapping[str, Any]) -> tuple[str, ...]:
        return ()


def at(seconds: float) -> datetime:
    return b.NOON + timedelta(seconds=seconds)


async def look(looks: Looks, seconds: float, epoch: int = 3) -> Look:
    return await looks.look(MIGRATION, Around(gateways={"gateway": "10.0.0.1"}, epoch=epoch), at(seconds))


async def asked_at(gateway: Gateway, *seconds: float, epoch: int = 3) -> list[int]:
    """Return how often the gateway had been asked after each of the passes."""
    looks, found = Looks(gateway, None), []
    for one in seconds:
        await look(looks, one, epoch)
        found.append(gateway.asked)
    return found


async def test_passes_within_a_period_ask_nobody_again() -> None:
    assert await asked_at(Gateway(), 0, 0.1, PERIOD - 0.01, PERIOD) == [1, 1, 1, 2]


async def test_a_clock_that_was_set_back_is_no_reason_to_believe_for_ever() -> None:
    assert await asked_at(Gateway(), 0, -3600) == [1, 2]


async def test_after_a_change_everybody_is_asked_anew() -> None:
    gateway = Gateway()
    looks = Looks(gateway, None)
    await look(looks, 0)
    looks.doubt(MIGRATION.meta.namespace, MIGRATION.meta.name)
    await look(looks, 0.1)
    await look(looks, 0.2)
    assert gateway.asked == 2


async def test_a_change_while_pods_are_asked_casts_doubt_on_their_answer() -> None:
    gateway = Gateway()
    looks = Looks(gateway, None)
    gateway.while_asked = lambda: looks.doubt(MIGRATION.meta.namespace, MIGRATION.meta.name)
    await look(looks, 0)
    gateway.while_asked = lambda: None
    await look(looks, 0.1)
    assert gateway.asked == 2


async def test_a_gateway_that_does_not_follow_yet_is_asked_soon_and_then_less_and_less_often() -> None:
    gateway = Gateway(epoch=3)
    looks, dues = Looks(gateway, None), [0.0]
    while dues[-1] < PERIOD:
        await look(looks, sum(dues), epoch=4)
        dues.append(looks.due(MIGRATION, at(sum(dues))).total_seconds())
    assert dues[1:] == pytest.approx([0.2, 0.4, 0.8, PERIOD])


async def test_a_gateway_that_follows_at_last_is_asked_in_its_period_again() -> None:
    gateway = Gateway(epoch=3)
    looks = Looks(gateway, None)
    await look(looks, 0, epoch=4)
    gateway.epoch = 4
    await look(looks, 0.2, epoch=4)
    assert looks.due(MIGRATION, at(0.2)).total_seconds() == pytest.approx(PERIOD)


async def test_another_order_is_followed_up_soon_again() -> None:
    looks = Looks(Gateway(epoch=3), None)
    for seconds in (0, 0.2, 0.6):
        await look(looks, seconds, epoch=4)
    await look(looks, 1.4, epoch=5)
    assert looks.due(MIGRATION, at(1.4)) == timedelta(seconds=0.2)


async def test_what_a_migration_that_left_saw_is_not_kept_for_one_of_its_name() -> None:
    gateway = Gateway()
    looks = Looks(gateway, None)
    await look(looks, 0)
    looks.forget(MIGRATION.meta.namespace, MIGRATION.meta.name, MIGRATION.meta.uid)
    await look(looks, 0.1)
    assert gateway.asked == 2


def test_no_period_is_longer_than_what_triggers_count_on_and_no_two_need_be_the_same() -> None:
    periods = {period(f"uid-{number}") for number in range(100)}
    assert (len(periods) > 90, min(periods) >= 0.75 * INTERVAL, max(periods) <= INTERVAL) == (True, True, True)


class Counting(Gateway):
    """A gateway whose counters somebody sets; its answers may be anything."""

    def __init__(self) -> None:
        super().__init__()
        self.ok, self.errors = 0.0, 0.0
        self.says: Any = None

    async def json(self, addresses: Mapping[str, str], path: str) -> dict[str, Any]:
        return dict.fromkeys(addresses, self.says)

    async def metrics(self, addresses: Mapping[str, str]) -> dict[str, list[Sample]]:
        labels = {"collection": b.NEW.collection, "probe": "false"}
        counts = [(f"{ARM_REQUESTS}_total", {**labels, "outcome": "ok"}, self.ok)]
        counts += [(f"{ARM_REQUESTS}_total", {**labels, "outcome": "error"}, self.errors)]
        return {pod: [*counts, (PROCESS, {}, 1.0)] for pod in addresses}


async def test_of_two_migrations_of_one_index_each_measures_by_its_own_looks() -> None:
    """The one that waits looks too, and its pages may be older than those that were taken in last."""
    gateway, gateways = Counting(), {"gateway": "10.0.0.1"}
    looks = Looks(gateway, None)
    waits = replace(b.migration(), meta=b.meta("rival"))
    gateway.ok = 10_000.0
    await looks.look(MIGRATION, Around(gateways=gateways), at(0))
    gateway.ok, gateway.errors = 10_050.0, 50.0
    await looks.look(MIGRATION, Around(gateways=gateways), at(10))
    gateway.ok, gateway.errors = 10_000.0, 0.0
    await looks.look(waits, Around(gateways=gateways), at(11))
    gateway.ok, gateway.errors = 10_060.0, 60.0
    found = (await looks.look(MIGRATION, Around(gateways=gateways), at(12))).arms[b.NEW.collection]
    assert (found.requests, found.errors) == (120, 60)


@pytest.mark.parametrize("says", [None, 5, [1], {}, {"collections": [{}]}, {"lagSeconds": float("nan")}])
async def test_an_answer_of_another_form_is_none(says: Any) -> None:
    pod = Counting()
    pod.says = says
    looks = Looks(pod, None)
    found = await looks.look(MIGRATION, Around(gateways={"a": "10.0.0.1"}, workers={"b": "10.0.0.2"}), at(0))
    assert (found.gateways, found.store if says != {} else None) == ((), None)
