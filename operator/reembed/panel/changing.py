"""Why a change of members has to wait: what each agent asks before it agrees, and what the Panel's status says."""

from __future__ import annotations

from reembed.core.quorum.membership import MOST_MEMBERSHIPS, Membership, apart
from reembed.panel.heartbeats import Heartbeats
from reembed.panel.office import LATELY, Office

__all__ = ["LATELY", "changed", "obstacle"]


def obstacle(office: Office, duties: Heartbeats) -> str | None:
    """Return why the members that are wished for could not take over now, None if they could, or none are."""
    wished, active = office.wished, office.active
    if wished is None or active is None:
        return None
    if len(office.chain) >= MOST_MEMBERSHIPS:
        full = f"{MOST_MEMBERSHIPS} memberships follow each other, and there is room for no more"
        return f"{full}: begin anew with another Panel"
    far = changed(active, wished)
    if len(far) > active.faulty:
        return f"{len(far)} members change at once, above the {active.faulty} that may be faulty: {', '.join(far)}"
    early = next((text for one in office.lately() if (text := apart(one, wished)) is not None), None)
    if early is not None:
        return f"membership {active.version} came a moment ago: {early}; or wait {LATELY / 60:.0f} minutes"
    strange = [
        one.name for one in wished.members if one not in active.members and duties.published.get(one.name) != one.key
    ]
    if strange:
        return f"the key wished for is not what the agent publishes: {', '.join(strange)}"
    alive = set(duties.live)
    found = sum(one.name in alive for one in wished.members)
    return None if found >= wished.quorum else f"{found} of them live, fewer than the {wished.quorum} that decide"


def changed(before: Membership, after: Membership) -> list[str]:
    """Return the names of those who leave, come, or get another key."""
    names = {one.name for one in (*before.members, *after.members)}
    return sorted(name for name in names if before.member(name) != after.member(name))
