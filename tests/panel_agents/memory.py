"""The agents' API server in memory, for virtual time: one namespace, a connection for each agent that can be cut.

`Pods` stands in for Deployments and kubelets: a pod that is deleted is made anew, and its agent starts in it after
some seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError, Object, Refused, Snapshot
from reembed.cluster.kinds import Kind
from reembed.panel.coordinator import LABEL_AGENT
from tests.panel_agents.world import Panel
from tests.sim.api_server import NAMESPACE, ApiServer, Change

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_WATCH_SECONDS = 60.0


def virtual_clock() -> datetime:
    return NOON + timedelta(seconds=asyncio.get_running_loop().time())


class Memory(Cluster):
    """One connection to `server`; while it is `cut` each request fails, and watches tell nothing."""

    def __init__(self, server: ApiServer | None = None) -> None:
        self.server = server or ApiServer(virtual_clock)
        self.cut = False
        self.refused = ""  # the name of what may not be deleted
        self.writes: list[tuple[str, str, str]] = []

    def line(self) -> Memory:
        """Return another connection."""
        return Memory(self.server)

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        await self._asked()
        return self.server.get(kind, name)

    async def snapshot(self, kind: Kind, namespace: str, *, selector: str = "") -> Snapshot:
        await self._asked()
        labels = dict(one.split("=") for one in selector.split(",") if one)
        return Snapshot(list(self.server.labelled(kind, labels)), str(self.server.version))

    async def pages(self, kind: Kind, namespace: str, *, selector: str = "") -> AsyncIterator[Snapshot]:
        yield await self.snapshot(kind, namespace, selector=selector)

    async def watch(self, kind: Kind, namespace: str, *, name: str | None = None) -> AsyncIterator[tuple[str, Object]]:
        await self._asked()
        queue: asyncio.Queue[tuple[str, Object]] = asyncio.Queue()

        def told(change: Change) -> None:
            if change.kind == kind and name in {None, change.name} and not self.cut:
                event = "DELETED" if change.after is None else "ADDED" if change.before is None else "MODIFIED"
                queue.put_nowait((event, change.newest))

        self.server.listeners.append(told)
        try:
            for obj in self.server.all(kind):
                if name in {None, obj["metadata"]["name"]}:
                    yield "ADDED", obj
            async with asyncio.timeout(_WATCH_SECONDS):
                while True:
                    yield await queue.get()
        except TimeoutError:
            return
        finally:
            self.server.listeners.remove(told)

    async def apply(self, kind: Kind, obj: Object, *, manager: str, subresource: str | None = None) -> Object:
        await self._wrote("apply", kind, obj["metadata"]["name"])
        return self.server.apply(kind, obj, manager, subresource or "")

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Mapping[str, Any],
        *,
        manager: str,
        subresource: str | None = None,
    ) -> Object:
        await self._wrote("patch", kind, name)
        return self.server.patch(kind, name, change, manager)

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        await self._wrote("delete", kind, name)
        if name == self.refused:
            raise Refused(403, "it is in its first minute")
        self.server.delete(kind, name, uid=uid)

    async def create(self, kind: Kind, namespace: str, obj: Object, *, manager: str) -> Object:
        await self._wrote("create", kind, obj["metadata"]["name"])
        made = self.server.create(kind, obj, manager)
        if "data" in obj:
            made = self.server.put(kind, obj["metadata"]["name"], {"data": obj["data"]}, manager)
        return made

    async def _asked(self) -> None:
        await asyncio.sleep(0.002)
        if self.cut:
            raise ClusterError(0, "no way to the API server")

    async def _wrote(self, verb: str, kind: Kind, name: str) -> None:
        await self._asked()
        self.writes.append((verb, kind.name, name))


class Pods:
    """A pod for each agent, made anew where it is deleted; `starts` seconds later `start` is called for it."""

    def __init__(self, server: ApiServer, panel: Panel, start: Callable[[str], None], starts: float = 5.0) -> None:
        self._server = server
        self._panel = panel
        self._start = start
        self._starts = starts
        self.deleted: list[tuple[float, str]] = []
        for name in panel.names:
            self.make(name)
        server.listeners.append(self._told)

    def make(self, name: str, phase: str = "Running") -> None:
        body = {"metadata": {"labels": {LABEL_AGENT: name}}, "status": {"phase": phase}}
        self._server.put(kinds.POD, f"pod-{name}", body, "kubelet")

    def _told(self, change: Change) -> None:
        if change.kind != kinds.POD or change.after is not None:
            return
        name = change.name.removeprefix("pod-")
        loop = asyncio.get_running_loop()
        self.deleted.append((loop.time(), name))
        loop.call_later(self._starts, self._again, name)

    def _again(self, name: str) -> None:
        self.make(name)
        self._start(name)


def memory_panel() -> Panel:
    """Return a panel on a server of its own; each agent that is started gets a connection of its own."""
    return Panel(Memory(), NAMESPACE, clock=virtual_clock)
