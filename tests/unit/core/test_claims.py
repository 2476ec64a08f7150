"""A pool runs while anybody needs it, by everybody's own word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reembed.core.claims import claims, replicas
from reembed.core.model import IndexStatus, Routing
from reembed.core.transitions import State
from tests import builders as b


@pytest.mark.parametrize(
    ("pool", "state", "found"),
    [
        pytest.param("new", State.BACKFILLING, ("EmbeddingMigration/move",), id="target of a running migration"),
        pytest.param(
            "old", State.CANARY, ("EmbeddingIndex/docs", "EmbeddingMigration/move"), id="what serves meanwhile"
        ),
        pytest.param("third", State.CANARY, (), id="nobody's"),
        pytest.param("new", State.ROLLED_BACK, (), id="target of a migration that ended"),
    ],
)
def test_a_pool_is_claimed_by_who_needs_it(pool: str, state: State, found: tuple[str, ...]) -> None:
    index = b.index(candidate=None)
    assert claims(pool, [index], [b.migration(state)]) == found


def test_a_migration_that_waits_for_its_index_claims_nothing() -> None:
    assert claims("new", [b.index(held=False, candidate=None)], [b.migration()]) == ()


def test_the_old_pool_is_kept_until_the_migration_ended() -> None:
    promoted = b.index()
    promoted = replace(promoted, status=replace(promoted.status, routing=Routing(9, serving=b.NEW)))
    kept = [claims("old", [promoted], [b.migration(state)]) for state in (State.PROMOTING, State.SUCCEEDED)]
    assert kept == [("EmbeddingMigration/move",), ()]


def test_a_pool_is_kept_for_an_index_whose_status_was_emptied() -> None:
    emptied = replace(b.index(), status=IndexStatus())
    kept = [claims("old", [emptied], [], before) for before in (["EmbeddingIndex/docs"], ["EmbeddingIndex/gone"], [])]
    assert kept == [("EmbeddingIndex/docs",), (), ()]


def test_both_sides_are_kept_for_a_migration_whose_index_was_emptied() -> None:
    emptied = replace(b.index(), status=IndexStatus())
    kept = [claims(pool, [emptied], [b.migration(State.CANARY)]) for pool in ("old", "new")]
    assert kept == [("EmbeddingMigration/move",), ("EmbeddingMigration/move",)]


@pytest.mark.parametrize(
    ("weight", "pool", "wanted", "found"),
    [
        pytest.param(10, "old", 1, 3, id="what serves, in the canary"),
        pytest.param(100, "old", 1, 3, id="what served, in the retention"),
        pytest.param(100, "new", 1, 3, id="the candidate"),
        pytest.param(10, "old", 5, 5, id="more are made at once"),
        pytest.param(10, "third", 1, 1, id="nobody's queries"),
        pytest.param(0, "old", 1, 1, id="no query is moved"),
    ],
)
def test_a_pool_whose_queries_may_come_back_loses_no_pod(weight: int, pool: str, wanted: int, found: int) -> None:
    assert replicas(pool, wanted, running=3, indexes=[b.index(weight)], migrations=[]) == found


@pytest.mark.parametrize(
    ("state", "pool", "found"),
    [
        pytest.param(State.PROMOTING, "old", 3, id="gateways may still ask what served"),
        pytest.param(State.ROLLING_BACK, "new", 3, id="gateways may still ask what is taken back"),
        pytest.param(State.UNWINDING, "new", 3, id="the same for a deleted one"),
        pytest.param(State.PROMOTING, "third", 1, id="nobody's"),
        pytest.param(State.BACKFILLING, "new", 1, id="nobody asks it yet"),
        pytest.param(State.SUCCEEDED, "old", 1, id="all gateways have let go"),
    ],
)
def test_a_pool_that_is_let_go_keeps_its_pods_until_every_gateway_did(state: State, pool: str, found: int) -> None:
    assert replicas(pool, 1, running=3, indexes=[b.index(0)], migrations=[b.migration(state)]) == found
