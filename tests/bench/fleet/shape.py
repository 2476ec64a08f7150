"""How large the fleet of the operator's benchmark is, what its objects are called, and where its pods answer.

A member is one index with its pools and its migrations, known by a number. The address of a pod says which member it
belongs to and what it is, so that one server can answer for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

NAMESPACE = "bench"
ACTIVE_LABEL = "bench.reembed.dev/active"
_PER_NET = 250


@dataclass(frozen=True, slots=True)
class Fleet:
    """Migrations that ended, spread over some indexes; the first `active` indexes get one that is under way."""

    finished: int
    active: int
    indexes: int

    @property
    def members(self) -> range:
        return range(self.indexes)

    @property
    def migrations(self) -> range:
        """Return the numbers of the migrations that have ended before the active ones take the places of some."""
        return range(self.finished + self.active)

    def ended(self, member: int) -> range:
        return range(member, len(self.migrations), self.indexes)


class Role(IntEnum):
    """What a pod is; the second number of its address."""

    GATEWAY = 1
    OTHER_GATEWAY = 2
    WITHHOLDING_GATEWAY = 3  # one that keeps queries from the candidate, when it runs
    WORKER = 4
    SERVING_POOL = 5
    TARGET_POOL = 6


def address(role: Role, member: int) -> str:
    return f"127.{role.value}.{member // _PER_NET}.{member % _PER_NET + 1}"


def at(ip: str) -> tuple[Role, int]:
    """Return what answers at an address."""
    _, role, net, host = (int(part) for part in ip.split("."))
    return Role(role), net * _PER_NET + host - 1


def index(member: int) -> str:
    return f"docs-{member:04}"


def pool(member: int, side: str) -> str:
    """Return the pool that serves ("a") or that an active migration leads to ("b")."""
    return f"model-{member:04}-{side}"


def fill(number: int) -> str:
    return f"fill-{number:04}"


def move(member: int) -> str:
    return f"move-{member:04}"


def collection(member: int, side: str) -> str:
    return f"c_{member:012}{side * 4}"


def member_of(name: str) -> int:
    """Return the member that an index, pool or migration belongs to."""
    return int(name.split("-")[1])
