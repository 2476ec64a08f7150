"""Watches one migration and its index from outside, as a user's `kubectl get --watch` would.

Every version of the index goes into the `Truth` that answers are judged by; every state and canary step of the
migration is noted with the time at which it was seen here, so that the times in the report are not the operator's own
word. `until` wakes on every change; nothing is polled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Self

from demo.judge import Truth
from demo.kubectl import Kubectl
from demo.report import Step
from demo.world import INDEX

ENDS = frozenset({"Succeeded", "RolledBack", "Failed"})


class Follower:
    """The latest version of a migration, the states it went through, and everything its index said."""

    def __init__(self, kubectl: Kubectl, migration: str) -> None:
        self.truth = Truth()
        self.migration: dict[str, Any] = {}
        self._kubectl = kubectl
        self._name = migration
        self._entered: list[tuple[str, float]] = []
        self._changed = asyncio.Condition()
        self._tasks = AsyncExitStack()

    async def __aenter__(self) -> Self:
        group = await self._tasks.enter_async_context(asyncio.TaskGroup())
        for task in (group.create_task(self._follow_index()), group.create_task(self._follow_migration())):
            self._tasks.callback(task.cancel)
        return self

    async def __aexit__(self, *problem: Any) -> bool | None:
        return await self._tasks.__aexit__(*problem)

    @property
    def state(self) -> str:
        return str(self.migration.get("status", {}).get("state", ""))

    async def until(self, wanted: Callable[[Mapping[str, Any]], bool], seconds: float) -> dict[str, Any]:
        """Return the first version of the migration that is wanted."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: bool(self.migration) and wanted(self.migration))
            return self.migration

    async def until_state(self, *states: str, seconds: float = 300.0) -> dict[str, Any]:
        return await self.until(lambda migration: migration.get("status", {}).get("state") in states, seconds)

    def steps(self) -> list[Step]:
        """Return the states and canary steps that were left, in their order, with how long each lasted."""
        following = [at for _, at in self._entered[1:]]
        return [Step(name, end - at) for (name, at), end in zip(self._entered, following, strict=False)]

    async def _follow_index(self) -> None:
        async for version in self._kubectl.watch("embeddingindex", INDEX):
            self.truth.record(version)

    async def _follow_migration(self) -> None:
        async for version in self._kubectl.watch("embeddingmigration", self._name):
            async with self._changed:
                self.migration = version
                name = state_name(version)
                if name and (not self._entered or self._entered[-1][0] != name):
                    self._entered.append((name, time.monotonic()))
                self._changed.notify_all()


def state_name(migration: Mapping[str, Any]) -> str:
    """Return the state as the report names it; steps of the canary by their weight."""
    status = migration.get("status", {})
    state = str(status.get("state", ""))
    if state != "Canary":
        return state
    step = migration["spec"]["canary"]["steps"][status.get("step", 0)]
    return f"Canary {step['weight']} %"
