"""A step's counts begin when gateways follow it, and those of another step are none of its own."""

from __future__ import annotations

from dataclasses import replace

from reembed.controller.steps import Steps
from reembed.core.measures import Counters, Counts
from reembed.core.migration import Migration
from reembed.core.sequences import Sample
from reembed.core.transitions import State
from tests import builders as b


def looked(steps: Steps, migration: Migration, ok: int) -> dict[str, Counts]:
    steps.look(migration, {}, {"a": {b.NEW.collection: Counters(live=Counts(ok=ok))}}, None)
    return steps.present(migration).counts


def test_a_step_is_counted_from_its_beginning_and_the_next_one_anew() -> None:
    told, first = b.migration(State.CANARY), b.migration(State.CANARY, acknowledged_at=b.NOON)
    second = b.migration(State.CANARY, acknowledged_at=b.NOON, step=1)
    steps = Steps()
    found = [looked(steps, *one) for one in ((told, 100), (first, 110), (first, 125), (second, 140), (second, 141))]
    assert found == [{}, *({b.NEW.collection: Counts(ok=ok)} for ok in (0, 15, 0, 1))]


def test_a_migration_that_waits_for_the_same_index_takes_no_step_away() -> None:
    steps, step = Steps(), b.migration(State.CANARY, acknowledged_at=b.NOON)
    looked(steps, step, 100)
    looked(steps, replace(b.migration(), meta=b.meta("rival")), 110)
    assert looked(steps, step, 120) == {b.NEW.collection: Counts(ok=20)}


def test_labelled_queries_count_from_the_beginning_of_a_step_also_when_their_counter_began_anew() -> None:
    steps, step = Steps(), b.migration(State.CANARY, acknowledged_at=b.NOON)
    found = []
    for sample in (Sample(90, 9.0, 9.0), Sample(100, 12.0, 11.0), None, Sample(5, 1.0, 1.0)):
        steps.look(step, {}, {}, sample)
        found.append(steps.present(step).found)
    assert found == [Sample(), *[Sample(10, 3.0, 2.0)] * 2, Sample(15, 4.0, 3.0)]
