"""What must hold of inspections: nobody moves away from vectors that nobody looked at, or that no pool here made."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from reembed.api.inspections import ANNOTATION
from reembed.cluster import kinds
from reembed.core.inspection import MAX_AGE, MIN_COSINE, NOT_REPRODUCED
from tests.sim.history import History, status_of
from tests.sim.world import Event, World


def what_serves_was_inspected_before_anything_is_made(history: History, event: Event) -> str:
    """A migration that begins to fill has an inspection of what serves, of a pool that makes its vectors again."""
    change = event.change
    if change is None or change.kind != kinds.MIGRATION or change.after is None or change.by == "user":
        return ""
    status, before = status_of(change.after), status_of(change.before)
    serving = status.get("serving")
    if status.get("state") != "Backfilling" or before.get("state") == "Backfilling" or serving is None:
        return ""
    if NOT_REPRODUCED in change.after["spec"].get("acknowledge", ()):
        return ""
    oldest = history.world.clock() - MAX_AGE - timedelta(minutes=1)
    found = [
        one
        for one in history.world.worker.store.inspections.values()
        if one["collection"] == serving["collection"] and datetime.fromisoformat(one["at"]) >= oldest
    ]
    if not found:
        return f"{change.name} fills, and nobody looked at {serving['collection']}"
    last = found[-1]["reproduced"]["medianCosine"]
    return "" if last >= MIN_COSINE else f"{change.name} fills, and the pool makes its vectors with {last} only"


def unanswered(world: World) -> str:
    """Say what somebody asked for and was not answered, where nothing has been in the way for long."""
    index = world.index()
    annotations = (index or {}).get("metadata", {}).get("annotations") or {}
    if ANNOTATION not in annotations:
        return ""
    nonce, asked = json.loads(annotations[ANNOTATION])["nonce"], status_of(index).get("inspection", {}).get("asked")
    if asked is None or asked["nonce"] != nonce or asked["outcome"] == "Accepted":
        return f"inspection {nonce} was asked for, and what is said of it is {asked}"
    return ""


RULES = (what_serves_was_inspected_before_anything_is_made,)
