"""The agent's own key: made at its first start, kept in its own Secret, and changed without a gap.

Every write of the Secret is a compare-and-set on its version, and no key is used before the Secret that holds it was
written: of two processes that start at the same moment, one makes the key and the other finds it. A rotation puts a
new key beside the one in office (`next`); the agent signs with whichever the membership in office names, and forgets
the old one once that is the new one. A person asks for it by the annotation `reembed.dev/rotate` on the Secret.

Beside the keys stands whom the agent believes: the digest of the panel's first members, the newest membership that it
has seen in office, and which changes of members it signed. They are no secret, and nobody else's to change either.

No private key is ever logged; what is wrong with a Secret is told by its name alone.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reembed.cluster.client import Cluster, ClusterError, Conflict, Object
from reembed.cluster.kinds import Kind
from reembed.core import names
from reembed.core.quorum.membership import Membership
from reembed.signing import SigningKey

SECRET = Kind("", "v1", "secrets", "Secret")
ANNOTATION_KEY = f"{names.GROUP}/public-key"  # on the agent's Lease: the key that its next membership should name
ANNOTATION_ROTATE = f"{names.GROUP}/rotate"
ANNOTATION_ROTATED = f"{names.GROUP}/rotated"  # the last value of the former that was obeyed

MANAGER = "reembed-panel"
_AGAIN = 1.0

_LOGGER = logging.getLogger("reembed.panel")


class BrokenSecret(Exception):
    """The agent's Secret holds something that is no key; somebody has to delete it, and to renew the membership."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the Secret holds."""

    current: SigningKey
    next: SigningKey | None = None
    anchor: str = ""  # digest of the first members; empty before the agent saw any in office
    version: int = 0  # of the newest membership seen in office
    vows: Mapping[int, str] = field(default_factory=dict)  # by version: the change of members that was signed for
    resource: str = field(default="", compare=False)

    @property
    def published(self) -> bytes:
        """Return the public key that the agent wants to be known by."""
        return (self.next or self.current).public

    @property
    def seed(self) -> bytes:
        """Return what this agent alone knows, for chance that nobody else can foresee."""
        return hashlib.sha256(b"reembed.dev/seed/v1\n" + self.current.raw()).digest()

    def signing(self, membership: Membership, agent: str) -> SigningKey | None:
        """Return the key that a membership names for the agent, None if it names none that is held."""
        member = membership.member(agent)
        held = (one for one in (self.current, self.next) if one is not None)
        return next((one for one in held if member is not None and one.public == member.key), None)


class KeyStore:
    """The Secret of one agent, and what was last read of it."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, agent: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._agent = agent
        self._kept: Kept | None = None

    @property
    def kept(self) -> Kept | None:
        """What the Secret holds, None before it could be read."""
        return self._kept

    async def open(self) -> Kept:
        """Return the key, made now if there is none; asks until the API server answers.

        Raises:
            BrokenSecret: what is there is no key.

        """
        while True:
            try:
                return await self.look()
            except Conflict:
                continue  # another process of this agent was faster: its key is ours
            except ClusterError as error:
                text = "Secret %s/%s could not be opened: %s; the agent signs nothing, and tries again"
                _LOGGER.warning(text, self._namespace, self._name, error)
                await asyncio.sleep(_AGAIN)

    async def look(self) -> Kept:
        """Read the Secret again, and do what it asks for: a first key, or another one.

        Raises:
            ClusterError: the API server did not do it; nothing has changed.

        """
        found = await self._cluster.get(SECRET, self._namespace, self._name)
        kept = _parsed(found, self._name) if found is not None else None
        annotations = (found or {}).get("metadata", {}).get("annotations") or {}
        asked = annotations.get(ANNOTATION_ROTATE, "")
        if kept is None:
            kept = await self._make(found)
            _LOGGER.info("a first key was made: %s", kept.current)
        elif asked and asked != annotations.get(ANNOTATION_ROTATED):
            kept = await self._write(kept if kept.next else replace(kept, next=SigningKey.new()), asked)
            _LOGGER.info("another key waits to be named by a membership: %s", kept.next)
        self._kept = kept
        return kept

    async def believe(self, anchor: str, membership: Membership) -> None:
        """Note who is in office; a key that another one has replaced there is forgotten.

        Raises:
            ClusterError: the API server did not take it; nothing has changed.

        """
        kept = self._kept
        if kept is None:
            return
        wanted = replace(kept, anchor=anchor, version=max(membership.version, kept.version))
        if kept.next is not None and kept.next is kept.signing(membership, self._agent):
            wanted = replace(wanted, current=kept.next, next=None)
            _LOGGER.info("the membership in office names the new key: %s", wanted.current)
        if wanted != kept:
            self._kept = await self._write(wanted)

    async def vow(self, version: int, digest: str) -> str:
        """Note for which change of members the agent signs in a version's slot; return the first that was noted.

        Such votes are good for ever, and the API keeps them for an hour at least: an agent has to know them itself.

        Raises:
            ClusterError: the API server did not take it; nothing may be signed.

        """
        kept = self._kept
        if kept is None:
            raise ClusterError(0, "the agent's Secret was not read yet")
        if version not in kept.vows:
            # Of who is in office already nobody is asked again.
            known = {one: text for one, text in kept.vows.items() if one > kept.version}
            self._kept = kept = await self._write(replace(kept, vows=known | {version: digest}))
        return kept.vows[version]

    async def _make(self, found: Object | None) -> Kept:
        made = Kept(SigningKey.new())
        if found is not None:
            return await self._write(replace(made, resource=found["metadata"]["resourceVersion"]))
        body = {
            "metadata": {
                "namespace": self._namespace,
                "name": self._name,
                "labels": {names.LABEL_PART_OF: names.PART_OF},
            },
            "type": "Opaque",
            "data": {name: value for name, value in _rendered(made).items() if value is not None},
        }
        created = await self._cluster.create(SECRET, self._namespace, body, manager=MANAGER)
        return replace(made, resource=created["metadata"]["resourceVersion"])

    async def _write(self, kept: Kept, rotated: str | None = None) -> Kept:
        meta: dict[str, Any] = {"resourceVersion": kept.resource}
        if rotated is not None:
            meta["annotations"] = {ANNOTATION_ROTATED: rotated}
        change = {"metadata": meta, "data": _rendered(kept)}
        written = await self._cluster.patch(SECRET, self._namespace, self._name, change, manager=MANAGER)
        return replace(kept, resource=written["metadata"]["resourceVersion"])


def _rendered(kept: Kept) -> dict[str, str | None]:
    """Return the Secret's data; None removes."""
    return {
        "key": _encoded(kept.current.raw()),
        "next": _encoded(kept.next.raw()) if kept.next is not None else None,
        "anchor": _encoded(kept.anchor.encode()),
        "version": _encoded(str(kept.version).encode()),
        "vows": _encoded(json.dumps({str(one): text for one, text in sorted(kept.vows.items())}).encode()),
    }


def _parsed(found: Object, name: str) -> Kept | None:
    """Return what a Secret holds, None if it is empty."""
    data: Mapping[str, str] = found.get("data") or {}
    if not data.get("key"):
        return None
    try:
        return Kept(
            SigningKey.of(_decoded(data["key"])),
            SigningKey.of(_decoded(data["next"])) if data.get("next") else None,
            _decoded(data.get("anchor", "")).decode(),
            int(_decoded(data.get("version", "")) or b"0"),
            {int(one): str(text) for one, text in json.loads(_decoded(data.get("vows", "")) or b"{}").items()},
            found["metadata"]["resourceVersion"],
        )
    except (ValueError, AttributeError, binascii.Error):
        # Without the cause: it may quote what it could not read.
        text = f"Secret {name} holds what is no key; delete it, and the agent makes another one for a new membership"
        raise BrokenSecret(text) from None


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
