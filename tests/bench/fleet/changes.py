"""Changes something that an active migration must decide upon, and waits until the decision is written.

Three kinds take turns: `spec` sets spec.paused, which is what a change of spec is to other operators too; `pod` has a
gateway pod appear that keeps queries from the candidate, and go again; `command` annotates. What is measured begins
when the API server has answered the change and ends when a watch of our own has the decision.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from tests.bench.fleet import kubelet, shape
from tests.bench.fleet.shape import Role

Object = dict[str, Any]
Decided = Callable[[Object], bool]

_KINDS = ("spec", "pod", "command")
# After the last change, in seconds.
_PATIENCE = 10.0


@dataclass
class Change:
    """One change and its decision; `seen` stays None if none came before `ended`."""

    member: int
    kind: str
    sent: float
    answered: float = 0.0
    seen: float | None = None
    ended: float = 0.0
    decided: Decided = field(repr=False, default=lambda _: False)

    @property
    def milliseconds(self) -> float:
        """Return how long the decision took; of one that never came, how long it was waited for."""
        return ((self.ended if self.seen is None else self.seen) - self.answered) * 1000


class Changes:
    """Changes the active members in turn."""

    def __init__(self, cluster: Cluster, active: int) -> None:
        self._cluster = cluster
        self._active = active
        self._open: dict[str, Change] = {}
        self._count = [0] * active
        self._objects: dict[str, Object] = {}
        self._left: set[str] = set()
        self._all_decided = asyncio.Event()
        self.watching = asyncio.Event()

    async def watch(self) -> None:
        """Follow the active migrations; what is awaited is noted the moment it is there."""
        path = kinds.MIGRATION.path(shape.NAMESPACE)
        query = {"watch": "true", "timeoutSeconds": "7200", "labelSelector": f"{shape.ACTIVE_LABEL}=true"}
        response = await self._cluster._request("GET", path, query, None, None, 7300)
        async with response:
            async for line in response.content:
                obj = json.loads(line)["object"]
                self._see(obj, monotonic())
                if len(self._objects) == self._active:
                    self.watching.set()

    def newest(self, member: int) -> Object:
        return self._objects[shape.move(member)]

    def _see(self, obj: Object, now: float) -> None:
        name = obj["metadata"]["name"]
        self._objects[name] = obj
        if name in self._left and _observed(obj):
            self._left.discard(name)
            if not self._left:
                self._all_decided.set()
        change = self._open.get(name)
        if change is not None and change.decided(obj):
            change.seen = now
            del self._open[name]

    async def run(self, seconds: float, rate: float) -> list[Change]:
        """Make `rate` changes a second for `seconds`, and return them once the last had time to be decided."""
        began, made, tasks = monotonic(), [], []
        for number in range(int(seconds * rate)):
            await asyncio.sleep(max(began + number / rate - monotonic(), 0))
            member = number % self._active
            if shape.move(member) in self._open:
                continue  # the last one is not decided yet; it is reported as such
            change, send = self._next(member)
            made.append(change)
            tasks.append(asyncio.create_task(self._send(change, send)))
        await asyncio.gather(*tasks)
        await asyncio.sleep(_PATIENCE)
        self._open.clear()
        for change in made:
            change.ended = monotonic()
        return made

    async def toggle_all(self) -> None:
        """Change every active member's spec while no operator runs; `decided` waits until one has seen them all."""
        self._left = {shape.move(member) for member in range(self._active)}
        self._all_decided.clear()
        for member in range(self._active):
            paused = not self.newest(member)["spec"].get("paused", False)
            await self._patch(member, {"spec": {"paused": paused}})

    async def decided(self) -> None:
        async with asyncio.timeout(120):
            await self._all_decided.wait()

    async def _send(self, change: Change, send: Any) -> None:
        self._open[shape.move(change.member)] = change
        change.sent = monotonic()
        await send
        change.answered = monotonic()

    def _next(self, member: int) -> tuple[Change, Any]:
        """Return the next change of a member: each kind is made and taken back before the next."""
        turn = self._count[member]
        self._count[member] += 1
        kind, forth = _KINDS[(turn // 2 + member) % len(_KINDS)], turn % 2 == 0
        decided, send = getattr(self, f"_{kind}")(member, forth)
        return Change(member, kind, 0.0, decided=decided), send

    def _spec(self, member: int, _: bool) -> tuple[Decided, Any]:
        paused = not self.newest(member)["spec"].get("paused", False)

        def decided(obj: Object) -> bool:
            return obj["spec"].get("paused", False) is paused and _observed(obj)

        return decided, self._patch(member, {"spec": {"paused": paused}})

    def _command(self, member: int, pause: bool) -> tuple[Decided, Any]:
        verb, nonce = "pause" if pause else "resume", f"{member}-{self._count[member]}-{monotonic()}"
        obj = self.newest(member)
        value = {"uid": obj["metadata"]["uid"], "at": obj["status"]["at"], "nonce": nonce}

        def decided(obj: Object) -> bool:
            return any(one["nonce"] == nonce for one in obj["status"].get("commands", ()))

        change = {"metadata": {"annotations": {f"reembed.dev/{verb}": json.dumps(value)}}}
        return decided, self._patch(member, change)

    def _pod(self, member: int, there: bool) -> tuple[Decided, Any]:
        def decided(obj: Object) -> bool:
            return (obj["status"]["reason"] == "GatewaysWithhold") is there

        role = Role.WITHHOLDING_GATEWAY
        phase = "Running" if there else "Pending"
        return decided, kubelet.say(self._cluster, withholding_pod(member), role, member, phase)

    async def _patch(self, member: int, change: Object) -> None:
        await self._cluster.patch(kinds.MIGRATION, shape.NAMESPACE, shape.move(member), change, manager="user")


def withholding_pod(member: int) -> str:
    return f"reembed-gateway-{shape.index(member)}-{Role.WITHHOLDING_GATEWAY.value}"


def _observed(obj: Object) -> bool:
    return obj.get("status", {}).get("observedGeneration") == obj["metadata"]["generation"]
