"""An application that writes, what is done to it and to those who follow it, and whether every vector is right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from demo.kubectl import KEY, Failed, Kubectl
from demo.measure import total
from demo.migration import Disturbance
from demo.stories import well_into
from demo.world import INDEX, World

_LOOK_SECONDS = 1.0

_LIVE = "SELECT name FROM reembed.collection WHERE state IN ('Filling', 'Indexed') ORDER BY created_at"
_CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'application' OR application_name LIKE 'reembed-%'"""
# Of one snapshot: what differs although no mark and no debt says so. Not the product's own query on purpose.
_WRONG = """
WITH marked AS (SELECT id FROM reembed.dirty UNION SELECT id FROM reembed.owed WHERE collection = '{name}')
SELECT coalesce(f.id, c.id) FROM functions f
FULL JOIN (SELECT id, text_hash FROM reembed.{name} WHERE part = 0 AND embedding IS NOT NULL) c ON c.id = f.id
WHERE c.text_hash IS DISTINCT FROM substring(sha256(convert_to(f.body, 'UTF8')) FOR 16)
  AND coalesce(f.id, c.id)::text NOT IN (SELECT id FROM marked WHERE id IS NOT NULL)
  AND coalesce(f.id, c.id)::text NOT IN (SELECT id FROM reembed.rejected WHERE collection = '{name}')"""
_PENDING = """
SELECT (SELECT count(*) FROM reembed.dirty),
       (SELECT count(*) FROM reembed.owed o JOIN reembed.collection c ON c.name = o.collection
        WHERE c.state IN ('Filling', 'Indexed'))"""


@dataclass
class Lags:
    """What the store worker said of the collection that is furthest behind, look by look."""

    seconds: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


@asynccontextmanager
async def watched(kubectl: Kubectl) -> AsyncIterator[Lags]:
    """Note the lag each second while the block runs; a worker that was killed says nothing for a while."""
    lags = Lags()

    async def watch() -> None:
        while True:
            with suppress(Failed, ValueError):
                for pod in await kubectl.list("pods", f"{KEY}/index={INDEX},app.kubernetes.io/component=worker"):
                    text = await kubectl.pod(pod["metadata"]["name"], "/metrics")
                    if "reembed_follower_lag_seconds{" in text:
                        lags.seconds.append(total(text, "reembed_follower_lag_seconds", {}))
            await asyncio.sleep(_LOOK_SECONDS)

    watching = asyncio.create_task(watch())
    try:
        yield lags
    finally:
        watching.cancel()


def kills_who_follows(world: World, state: str) -> Disturbance:
    """End the store worker's pod, a backfill pod if one runs, and every connection to the database."""
    at_once = ("--grace-period=0", "--force", "--wait=false")

    async def act() -> str:
        kubectl = world.kubectl
        await kubectl.run("delete", "pods", "--selector=app.kubernetes.io/component=worker", *at_once)
        backfill = await kubectl.list("pods", "app.kubernetes.io/component=backfill")
        running = [pod["metadata"]["name"] for pod in backfill if pod["status"].get("phase") == "Running"]
        if running:
            await kubectl.run("delete", "pod", running[0], *at_once)
        cut = await world.sql(_CUT)
        return f"worker, {min(len(running), 1)} backfill pod and {cut[0][0]} connections ended"

    return Disturbance(
        f"who follows is killed in {state}", lambda migration: well_into(migration.get("status", {}), state), act
    )


def looks_at_both_sides(world: World, found: dict[str, list[int]]) -> Disturbance:
    """See during retention, while everybody writes, that both collections lack nothing that nobody knows of."""

    async def act() -> None:
        found.update(await wrong(world))

    return Disturbance(
        "both collections compared", lambda migration: well_into(migration.get("status", {}), "Retaining"), act
    )


async def wrong(world: World) -> dict[str, list[int]]:
    """Return of each live collection the documents whose vector is missing, stale or left over, and not on its way."""
    names = [row[0] for row in await world.sql(_LIVE)]
    return {name: [row[0] for row in await world.sql(_WRONG.format(name=name))] for name in names}


async def settled(world: World, seconds: float) -> None:
    """Wait until nothing that was written lacks anywhere."""
    async with asyncio.timeout(seconds):
        while await world.sql(_PENDING) != [[0, 0]]:  # noqa: ASYNC110 a database is read, it tells nobody
            await asyncio.sleep(_LOOK_SECONDS)
