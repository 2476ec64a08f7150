"""Who votes, and how many votes decide.

Of n members f may be faulty in any way. Two quorums of q share at least 2q - n members, which must be more than f, or
two contradictory proposals could both pass; and q may be at most n - f, or the faulty could stop every vote by silence.
For n = 8 and f = 2 only q = 6 is both: five, the textbook's 2f + 1, is unsafe there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from reembed.core.quorum import canonical

# (public key of 32 bytes, message, signature of 64 bytes) -> whether the key's owner signed the message.
Verify = Callable[[bytes, bytes, bytes], bool]

KEY_BYTES = 32
SIGNATURE_BYTES = 64
# More keys than this no certificate of an index's status has room for.
MOST_MEMBERS = 16
# Memberships that the status of a Panel and of an index has room for (`crds`), and from which on that is told.
MOST_MEMBERSHIPS = 32
MANY_MEMBERSHIPS = 28


class Role(Enum):
    """What a member looks at more closely than the others; all judge every proposal."""

    EMBEDDING_SPECIALIST = "EmbeddingSpecialist"
    MEMORY_ANALYST = "MemoryAnalyst"
    PARALLELISM_OPTIMIZER = "ParallelismOptimizer"
    STREAMING_LOADER = "StreamingLoader"
    EMBEDDINGS_VALIDATOR = "EmbeddingsValidator"
    CONFIGURATION_MANAGER = "ConfigurationManager"
    PATTERN_LEARNER = "PatternLearner"
    BYZANTINE_COORDINATOR = "ByzantineCoordinator"


@dataclass(frozen=True, slots=True)
class Member:
    """One agent: its name, what it looks at, and its public key (Ed25519, 32 bytes)."""

    name: str
    role: Role
    key: bytes


@dataclass(frozen=True)
class Membership:
    """The members of one time; `version` grows from 1 on, and each membership is certified by the one before it."""

    version: int
    faulty: int  # that are tolerated
    members: tuple[Member, ...]

    @property
    def quorum(self) -> int:
        """Return how many votes decide: the least number of which any two sets share a member that is not faulty."""
        return (len(self.members) + self.faulty) // 2 + 1

    @property
    def blocking(self) -> int:
        """Return how many refusals prove that one that is not faulty refuses."""
        return self.faulty + 1

    @cached_property
    def digest(self) -> str:
        """Return what names exactly these members with these keys."""
        return canonical.digest(canonical.MEMBERSHIP, to_json(self))

    def holder(self, key: bytes) -> Member | None:
        return next((member for member in self.members if member.key == key), None)

    def member(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)


def unsound(membership: Membership) -> str | None:
    """Return why no vote of these members would mean anything, None if theirs does."""
    members, faulty = membership.members, membership.faulty
    if len(members) > MOST_MEMBERS:
        return f"{len(members)} members, above the {MOST_MEMBERS} that a certificate has room for"
    if faulty < 0 or len(members) < 3 * faulty + 1:
        return f"{len(members)} members tolerate {(len(members) - 1) // 3} faulty ones at most, not {faulty}"
    if membership.version < 1:
        return f"version {membership.version}, below the first, 1"
    if any(len(member.key) != KEY_BYTES for member in members):
        return f"a public key that is not of {KEY_BYTES} bytes"
    for what, values in (("name", {one.name for one in members}), ("public key", {one.key for one in members})):
        if len(values) != len(members):
            return f"two members with one {what}: each of them would vote twice"
    return None


def apart(before: Membership, after: Membership) -> str | None:
    """Return why `after` may not take over from `before`, None if it may.

    An agent votes once in a slot, by its name and with whatever key. As long as two quorums, one of each time, share
    more names than may be faulty, they cannot pass two contradictory proposals while the change is under way.
    """
    names = {member.name for member in (*before.members, *after.members)}
    shared, faulty = before.quorum + after.quorum - len(names), max(before.faulty, after.faulty)
    if shared > faulty:
        return None
    text = f"a quorum before it and one after it share {max(shared, 0)} names or more, and must share {faulty + 1}"
    return f"{text}; add and remove members one at a time"


def to_json(membership: Membership) -> dict[str, Any]:
    """Return the value that is hashed and stands in the API; the order of the members means nothing."""
    return {
        "version": membership.version,
        "faulty": membership.faulty,
        "members": [
            {"name": member.name, "role": member.role.value, "publicKey": encoded(member.key)}
            for member in sorted(membership.members, key=lambda member: member.name)
        ],
    }


def encoded(raw: bytes) -> str:
    """Return bytes as they stand in objects: base64."""
    return base64.b64encode(raw).decode()


def decoded(text: str) -> bytes | None:
    """Return the bytes of base64; None for what is none, or is another spelling of the same bytes."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if encoded(raw) == text else None
