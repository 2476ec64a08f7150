"""What happens to a migration in the demo and the e2e stories, each with the moment at which it strikes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo import chaos
from demo.kubectl import Kubectl
from demo.migration import Disturbance
from demo.world import NEW_POOL, World


def kills(system: Kubectl, state: str) -> Disturbance:
    """Kill the operator in the middle of a state."""
    return Disturbance(
        name=f"operator killed in {state}",
        when=lambda migration: well_into(migration.get("status", {}), state),
        act=lambda: chaos.kill_operator(system),
    )


def loses_candidate(world: World) -> Disturbance:
    """Take the new model's pods away for good once half of the queries go to them."""
    return Disturbance(
        name=f"pods of {NEW_POOL} lost at 50 %",
        when=lambda migration: well_into(migration.get("status", {}), "Canary", weight=50),
        act=lambda: chaos.lose_candidate(world.kubectl, NEW_POOL),
    )


def well_into(status: Mapping[str, Any], state: str, weight: int = 1) -> bool:
    """Return whether a state was not only entered: documents were written, or gateways serve at least this weight."""
    if status.get("state") != state:
        return False
    if state == "Backfilling":
        return bool((status.get("backfill") or {}).get("documents", 0) > 0)
    return state != "Canary" or bool((status.get("weight") or {}).get("actual", 0) >= weight)
