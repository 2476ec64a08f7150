"""What happens to a migration in the demo and the e2e stories, each with the moment at which it strikes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo import chaos
from demo.kubectl import Kubectl
from demo.migration import Disturbance
from demo.world import NEW_POOL, World


def kills(system: Kubectl, state: str) -> Disturbance:
    """Kill the operator in the middle of a state: once documents were written, or queries moved."""
    return Disturbance(
        name=f"operator killed in {state}",
        when=lambda migration: _well_into(migration, state),
        act=lambda: chaos.kill_operator(system),
    )


def loses_candidate(world: World) -> Disturbance:
    """Take the new model's pods away for good once half of the queries go to them."""
    return Disturbance(
        name=f"pods of {NEW_POOL} lost at 50 %",
        when=lambda migration: _acknowledged(migration) == 50,
        act=lambda: chaos.lose_candidate(world.kubectl, NEW_POOL),
    )


def _well_into(migration: Mapping[str, Any], state: str) -> bool:
    status = migration.get("status", {})
    if status.get("state") != state:
        return False
    return state != "Backfilling" or (status.get("backfill") or {}).get("documents", 0) > 0


def _acknowledged(migration: Mapping[str, Any]) -> int | None:
    status = migration.get("status", {})
    return (status.get("weight") or {}).get("actual") if status.get("state") == "Canary" else None
