"""Agents that lie. Each is an honest one whose connection or judge does something else, as its `mode` says.

What a connection does to a Ballot is what any program with the agent's account could do: keep it, cast it twice or
under others' names, cast old ones anew. Nobody has another agent's private key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from copy import deepcopy
from datetime import datetime
from enum import Enum
from typing import Any

from reembed import signing
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError, Object
from reembed.cluster.kinds import Kind
from reembed.core.quorum.certificates import Choice, ballot_message
from reembed.core.quorum.judging import Judgement
from reembed.core.quorum.membership import encoded
from tests.panel_agents.world import NAMES, Saying


class Mode(Enum):
    """What an agent does with a vote."""

    HONEST = "honest"
    SILENT = "silent"  # beats and casts nothing
    EQUIVOCATING = "equivocating"  # casts both, the second under its own name and under one that nobody has
    REPLAYING = "replaying"  # casts a vote of an older slot anew
    FORGING = "forging"  # casts under a dead agent's name, with that one's public key and its own signature
    SLOW = "slow"  # says it after others have decided
    LYING_GOOD = "lying good"  # approves whatever it is
    LYING_BAD = "lying bad"  # refuses whatever it is
    FLOODING = "flooding"  # casts its approval under many names


class Turncoat(Saying):
    """A judge and the mode that its agent is in; `truth` is what an honest one says."""

    def __init__(self) -> None:
        super().__init__(Choice.APPROVE)
        self.mode = Mode.HONEST

    async def judge(self, decision: Any, now: datetime) -> Judgement:
        if self.mode is Mode.SLOW:
            await asyncio.sleep(1.5)
        choice = {Mode.LYING_GOOD: Choice.APPROVE, Mode.LYING_BAD: Choice.REJECT}.get(self.mode, self.choice)
        return Judgement(choice, (f"Told: {self.mode.value}",), {"measured": 1})


class Lying(Cluster):
    """The connection of one such agent."""

    def __init__(self, cluster: Cluster, turncoat: Turncoat) -> None:
        super().__init__(cluster._access, cluster._session)
        self.turncoat = turncoat
        self.key: Callable[[], signing.SigningKey] | None = None
        self.victim = ""
        self.victim_key = b""
        self._old: Object | None = None

    async def create(self, kind: Kind, namespace: str, obj: Object, *, manager: str) -> Object:
        if kind != kinds.BALLOT:
            return await super().create(kind, namespace, obj, manager=manager)
        old, self._old = self._old, deepcopy(obj)
        do: dict[Mode, Callable[[Object, Object | None], Awaitable[list[Object]]]] = {
            Mode.SILENT: self._silent,
            Mode.EQUIVOCATING: self._both,
            Mode.REPLAYING: self._replayed,
            Mode.FORGING: self._forged,
            Mode.FLOODING: self._flood,
        }
        bodies = await do.get(self.turncoat.mode, self._honest)(obj, old)
        made = obj
        for body in bodies:
            with suppress(ClusterError):
                made = await super().create(kind, namespace, body, manager=manager)
        return made

    async def _honest(self, obj: Object, old: Object | None) -> list[Object]:
        return [obj]

    async def _silent(self, obj: Object, old: Object | None) -> list[Object]:
        return []

    async def _both(self, obj: Object, old: Object | None) -> list[Object]:
        other = Choice.REJECT if obj["spec"]["choice"] == "Approve" else Choice.APPROVE
        second = self._signed(obj, other)
        return [obj, second, _named(second, "nobody")]

    async def _replayed(self, obj: Object, old: Object | None) -> list[Object]:
        if old is None:
            return [obj]
        # An approval that was true of another slot, under the name and proposal of this one.
        stolen = {name: old["spec"][name] for name in ("choice", "publicKey", "evidenceDigest", "signature")}
        return [{**obj, "spec": {**obj["spec"], **stolen}}]

    async def _forged(self, obj: Object, old: Object | None) -> list[Object]:
        mine = self._signed(obj, Choice.APPROVE)
        spec = {**mine["spec"], "publicKey": encoded(self.victim_key)}
        return [mine, _named({**mine, "spec": spec}, self.victim), _named(mine, "nobody")]

    async def _flood(self, obj: Object, old: Object | None) -> list[Object]:
        mine = self._signed(obj, Choice.APPROVE)
        return [mine, *(_named(mine, f"x-{number}") for number in range(10))]

    def _signed(self, obj: Object, choice: Choice) -> Object:
        assert self.key is not None
        spec, key = obj["spec"], self.key()
        message = ballot_message(spec["proposal"], spec["slot"], choice, spec["evidenceDigest"])
        return {**obj, "spec": {**spec, "choice": choice.value, "signature": encoded(key.sign(message))}}


def _named(obj: Object, agent: str) -> Object:
    spec = {**obj["spec"], "agent": agent}
    return {**obj, "metadata": {**obj["metadata"], "name": f"{spec['slot']}.{agent}"}, "spec": spec}


__all__ = ["NAMES", "Lying", "Mode", "Turncoat"]
