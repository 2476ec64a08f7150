"""A panel's agents as the plugin finds them: their Leases say who lives, and by which key each wants to be known.

Pure: raw Leases in, `Agent`s out. What an agent's Lease is called, and what stands on it, is set by `reembed.panel`,
which other rooms do not import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from reembed.api.fields import Raw
from reembed.api.values import InvalidValue, parse_time
from reembed.core import names
from reembed.core.quorum import watch
from reembed.core.quorum.membership import KEY_BYTES, Member, Role, decoded

PREFIX = names.AGENT_PREFIX
ANNOTATION_KEY = f"{names.GROUP}/public-key"
ANNOTATION_ROTATE = f"{names.GROUP}/rotate"
# Without a heartbeat for so long an agent counts as gone.
DEAD = timedelta(seconds=watch.DEAD)


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent's Lease."""

    name: str
    key: bytes | None = None  # by which it wants to be known
    beat: datetime | None = None  # by the agent's own clock

    def lives(self, now: datetime) -> bool:
        return self.beat is not None and now - self.beat < DEAD


def name_of(role: Role) -> str:
    """Return what the agent of a role is called: memory-analyst for MemoryAnalyst."""
    return re.sub("(?<!^)(?=[A-Z])", "-", role.value).lower()


ROLES = {name_of(role): role for role in Role}


def read_agents(leases: Iterable[Raw]) -> dict[str, Agent]:
    """Return the agents by their names; Leases of others are left out."""
    found = (_read(one) for one in leases if str(one["metadata"]["name"]).startswith(PREFIX))
    return {agent.name: agent for agent in found if agent.name in ROLES}


def _read(lease: Raw) -> Agent:
    meta, spec = lease["metadata"], lease.get("spec") or {}
    key = decoded(str((meta.get("annotations") or {}).get(ANNOTATION_KEY, "")))
    return Agent(
        name=str(meta["name"]).removeprefix(PREFIX),
        key=key if key is not None and len(key) == KEY_BYTES else None,
        beat=_time(spec.get("renewTime")),
    )


def _time(text: object) -> datetime | None:
    try:
        return parse_time(str(text)) if text else None
    except InvalidValue:
        return None


def member(agent: Agent) -> Member:
    """Return the agent as a member of the panel.

    Raises:
        ValueError: it has not said by which key it wants to be known.

    """
    if agent.key is None:
        raise ValueError(f"agent {agent.name} has published no key")
    return Member(agent.name, ROLES[agent.name], agent.key)
