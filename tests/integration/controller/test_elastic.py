"""A backfill runs with more pods or fewer, and its Job is one and the same from its first page to its last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.controller.shell import wall_clock
from reembed.core import names
from reembed.core.throttle import LEAST, MOST
from tests.integration.controller.running import filled, operator, until
from tests.integration.controller.world import World, objects

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


class Clock:
    """The operator's, which a test puts on."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return wall_clock() + self.ahead


class Backfill:
    """A migration that fills for as long as it is wanted, and what its user and its pods say."""

    def __init__(self, cluster: Cluster, world: World, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self.world = world
        self.clock = Clock()
        self.jobs: set[tuple[str, str]] = set()  # every Job that was ever seen, by its name and its UID

    async def told(self, **backfill: Any) -> None:
        """Change the manifest."""
        manifest = objects(self._namespace)[kinds.MIGRATION, "move"]
        manifest["spec"] |= {"paused": backfill.pop("paused", False), "backfill": {"shards": 16, **backfill}}
        await self._cluster.apply(kinds.MIGRATION, manifest, manager="user")

    async def runs(self, pods: int) -> dict[str, Any]:
        """Return the Job once so many pods may run."""
        async with asyncio.timeout(60):
            while True:
                for job in await self.all():
                    self.jobs.add((job["metadata"]["name"], job["metadata"]["uid"]))
                    if job["spec"]["parallelism"] == pods:
                        return job
                await asyncio.sleep(0.05)

    async def all(self) -> list[dict[str, Any]]:
        """Return the Jobs of the migration that there are."""
        label = f"{names.LABEL_COMPONENT}=backfill,{names.LABEL_MIGRATION}=move"
        return await self._cluster.list(kinds.JOB, self._namespace, selector=label)

    async def status(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        found = await until(self._cluster, kinds.MIGRATION, self._namespace, "move", lambda seen: holds(seen["status"]))
        status: dict[str, Any] = found["status"]
        return status


@asynccontextmanager
async def filling(cluster: Cluster, world: World, namespace: str) -> AsyncIterator[Backfill]:
    backfill = Backfill(cluster, world, namespace)
    async with operator(cluster, world, namespace, clock=backfill.clock):
        await filled(cluster, namespace)
        world.reached = "Filling"
        await backfill.told(parallelism=8)
        await backfill.runs(8)
        yield backfill


async def test_parallelism_follows_its_user_and_the_load_and_the_job_stays_the_same(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with filling(cluster, world, namespace) as backfill:
        await backfill.told(parallelism=12)
        await backfill.runs(12)
        await backfill.told(parallelism=8)
        await backfill.runs(8)
        world.asked = (LEAST, "store")
        await backfill.runs(4)
        lowered = await backfill.status(lambda status: "lowered" in status)
        backfill.clock.ahead += timedelta(seconds=31)
        await backfill.runs(2)
        await backfill.told(parallelism=8, paused=True)
        await backfill.runs(0)
        world.asked = (MOST, None)
        await backfill.told(parallelism=8)
        await backfill.runs(2)
        for pods in range(3, 9):
            backfill.clock.ahead += timedelta(seconds=61)
            last = await backfill.runs(pods)
        await backfill.status(lambda status: "lowered" not in status)
    assert (lowered["lowered"]["pods"], lowered["lowered"]["by"]) == (4, "store")
    assert lowered["message"].endswith("4 of 8 pods may run, since commits take much longer than usual")
    assert backfill.jobs == {(last["metadata"]["name"], last["metadata"]["uid"])}


async def test_an_operator_that_starts_anew_runs_as_few_pods_as_the_one_before(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with filling(cluster, world, namespace) as backfill:
        world.asked = (LEAST, "queries")
        await backfill.runs(4)
        await backfill.status(lambda status: "lowered" in status)
    world.asked = (None, None)
    async with operator(cluster, world, namespace, clock=backfill.clock):
        await backfill.told(parallelism=6)
        await backfill.status(lambda status: "4 of 6 pods may run" in status["message"])
        assert [job["spec"]["parallelism"] for job in await backfill.all()] == [4]


async def test_a_job_that_another_version_made_ends_before_both_fill_the_same_shards(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with filling(cluster, world, namespace) as backfill:
        (job,) = await backfill.all()
        meta = {name: job["metadata"][name] for name in ("namespace", "labels", "ownerReferences")}
        fixed = {name: job["spec"][name] for name in ("completions", "completionMode", "backoffLimitPerIndex")}
        template = {"metadata": {"labels": meta["labels"]}, "spec": job["spec"]["template"]["spec"]}
        older = {"metadata": {**meta, "name": "older"}, "spec": {**fixed, "parallelism": 8, "template": template}}
        await cluster.create(kinds.JOB, namespace, older, manager="operator-before")
        async with asyncio.timeout(60):
            while len(await backfill.all()) > 1:  # noqa: ASYNC110 the API server is asked
                await asyncio.sleep(0.05)
        assert [one["metadata"]["uid"] for one in await backfill.all()] == [job["metadata"]["uid"]]
