"""What Prometheus reads of migrations: those under way as their last pass left them, and how many have ended how."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from prometheus_client import generate_latest

from reembed.controller.migration_metrics import MigrationMetrics
from reembed.controller.pool_metrics import PoolMetrics
from reembed.controller.readiness import Readiness
from reembed.controller.web import Metrics
from reembed.core import reasons
from reembed.core.migration import Backfill, Migration, Status
from reembed.core.quorum.asked import Asked
from reembed.core.quorum.counting import Standing
from reembed.core.transitions import State
from tests import builders as b
from tests.fixtures.exposition import parse
from tests.panels import raising


class World:
    """One operator's metrics, of namespace `rag`."""

    def __init__(self) -> None:
        self.leads = True
        self.process = Metrics()
        self.migrations = MigrationMetrics(self.process.ended)
        pools = PoolMetrics(self.process.recycled)
        self.process.tell(Readiness(("rag",), ()), lambda: self.leads, pools, self.migrations)

    def passed(self, before: Migration, now: datetime, **changes: object) -> Migration:
        """Have a pass change the status of a migration."""
        status: Status = replace(before.status, **changes)  # type: ignore[arg-type]
        self.migrations.take(before, status, now)
        return replace(before, status=status)

    def series(self) -> dict[tuple[str, ...], float]:
        """Return what is exposed of migrations by name and the labels' values, zeros left out."""
        found = parse(generate_latest(self.process.registry).decode())
        return {
            (name.removeprefix("reembed_"), *(labels[key] for key in sorted(labels))): value
            for name, labels, value in found
            if name.startswith("reembed_migration") and not name.endswith("_created") and value
        }


MOVE = ("move", "rag")


def test_one_under_way_shows_its_state_reason_and_documents() -> None:
    world = World()
    backfill = Backfill(400, 1000, 0, 50.0, None, None, "job")
    world.passed(b.migration(State.BACKFILLING), b.NOON, reason="Filling", backfill=backfill)
    assert world.series() == {
        ("migration_state", *MOVE, "Filling", "Backfilling"): 1.0,
        ("migration_backfilled_documents", *MOVE): 400.0,
    }


def test_waiting_for_the_panel_begins_with_the_first_proposal_and_a_refusal_does_not_end_it() -> None:
    world = World()
    asked = Asked(raising(0, 10), b.after(-30))
    waits = world.passed(b.migration(State.CANARY), b.NOON, reason=reasons.AWAITING_PANEL, asked=asked)
    again = Asked(raising(0, 10, 6), b.after(200), Standing.REFUSED)
    world.passed(waits, b.after(200), reason=reasons.PANEL_REFUSED, asked=again)
    assert world.series() == {
        ("migration_state", *MOVE, "PanelRefused", "Canary"): 1.0,
        ("migration_panel_waiting_since_timestamp_seconds", *MOVE): b.after(-30).timestamp(),
        ("migration_panel_deadline_seconds", *MOVE): 120.0,
    }


def test_what_the_panel_agreed_to_before_is_not_what_is_waited_for() -> None:
    world = World()
    old = Asked(raising(0, 10), b.after(-3000), Standing.CERTIFIED)
    world.passed(b.migration(State.CANARY), b.NOON, reason=reasons.AWAITING_PANEL, asked=old)
    assert world.migrations.known["rag", "move"].panel_since == b.NOON
    world.passed(b.migration(State.CANARY), b.after(5), reason="Holding", asked=old)
    assert world.migrations.known["rag", "move"].panel_since is None


def test_one_that_ended_is_counted_once_and_shown_no_more() -> None:
    world = World()
    ended = world.passed(b.migration(State.ROLLING_BACK), b.NOON, state=State.ROLLED_BACK)
    world.passed(ended, b.after(5))
    assert world.series() == {("migrations_ended_total", "rag", "RolledBack"): 1.0}


def test_counters_are_there_before_anything_has_ended() -> None:
    text = generate_latest(World().process.registry).decode()
    for outcome in ("Succeeded", "RolledBack", "Failed"):
        assert f'reembed_migrations_ended_total{{namespace="rag",outcome="{outcome}"}} 0.0' in text.splitlines()


def test_one_that_is_gone_and_a_replica_that_does_not_lead_show_nothing() -> None:
    world = World()
    world.passed(b.migration(State.CANARY), b.NOON, reason="Holding")
    world.leads = False
    assert world.series() == {}
    world.leads = True
    world.migrations.forget("rag", "move")
    assert world.series() == {}
