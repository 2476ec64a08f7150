"""What the stories say: given a world, when something is done to it, then what was seen.

Each verb is a few calls of the demo's own parts, so that a story and `make demo` mean the same by "answered". A story
fails in the words of the first thing that was not as it should be.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from demo.follow import Follower
from demo.judge import judge
from demo.kubectl import KEY, Failed, Kubectl
from demo.migration import Disturbance, Outcome, migrate
from demo.report import LEAST_QUERIES_PER_S, PROBE_TEXTS
from demo.world import FIRST_EXAMPLES, INDEX, MIGRATION, NEW_POOL, OLD_POOL, World
from hack.cache import ROOT
from tests.e2e import hooking, pressure

_log = logging.getLogger("stories")

_HOOKS_AND_GATES = "hooks-and-gates/migration.yaml"
_SLICES = "slices/migration.yaml"
# Methods and plain functions, by the name that the corpus gives a function.
_LABEL_LINES = """
SELECT json_build_object('query', query, 'relevant', json_agg(id::text), 'slice', slice)::text FROM (
  SELECT query, id, CASE WHEN name ~ '[.][A-Z][^.]*[.]' THEN 'methods' ELSE 'functions' END AS slice
  FROM labels JOIN functions USING (id)
) AS labelled GROUP BY query, slice
"""

_WATCHED_SECONDS = 4.0  # long enough for twice what an embedder does at a time
_CALLERS = 80  # at the same time; emergency protection lets ten in, and a quick one ends some before others come
# What the chart and the examples allow a pod.
_LIMITS_MIB = {"operator": 256, "gateway": 256, "embedder": 512}


@dataclass(frozen=True, slots=True)
class Story:
    """One world and the operator that looks after it."""

    world: World
    system: Kubectl

    async def given_an_index_under_steady_queries(self) -> None:
        await self.world.make_namespace()
        await self.world.start_store()
        await self.world.start_models()
        await self.world.fill()
        await self.world.start_load()

    async def given_a_receiver_of_hooks(self) -> None:
        await hooking.start_receiver(self.world)

    async def given_labels_in_a_config_map(self) -> None:
        """Make the ConfigMap as docs/evaluation.md says, from the table that the other examples name."""
        lines = "\n".join(str(line) for (line,) in await self.world.sql(_LABEL_LINES))
        metadata = {"name": "functions-labels", "labels": {"app.kubernetes.io/part-of": "reembed-demo"}}
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"labels": lines}}
        await self.world.kubectl.apply(json.dumps(made))

    async def given_an_index_that_is_being_filled(self) -> None:
        await self.world.apply_example(*FIRST_EXAMPLES)
        finalizer = "--for=jsonpath={.metadata.finalizers[0]}=reembed.dev/unwind"
        for kind in ("embedderpools", "embeddingindexes", "embeddingmigrations"):
            await self.world.kubectl.run("wait", kind, "--all", finalizer, "--timeout=30s")

    async def when_the_namespace_is_deleted(self) -> None:
        """Delete it with everything in it, and wait until it is gone."""
        await self.system.run("delete", "namespace", self.world.kubectl.namespace, "--timeout=120s")

    async def when_it_migrates_with_hooks_and_gates(self, disturbances: Sequence[Disturbance]) -> Outcome:
        async def apply() -> str:
            await self.world.apply_example(_HOOKS_AND_GATES)
            return MIGRATION

        return await migrate(self.world, apply, disturbances)

    async def when_it_migrates_by_slices_impatiently(self, disturbances: Sequence[Disturbance]) -> Outcome:
        """Apply the example with slices, with the hooks of the other one, and a trigger that needs seconds."""
        migration = example(_SLICES)
        impatient = {"triggers": {"errorRate": {"threshold": "5%", "for": "10s"}}}
        migration["spec"] |= {"hooks": example(_HOOKS_AND_GATES)["spec"]["hooks"], "rollback": impatient}

        async def apply() -> str:
            await self.world.kubectl.apply(json.dumps(migration))
            return MIGRATION

        return await migrate(self.world, apply, disturbances)

    @asynccontextmanager
    async def when_it_migrates(self) -> AsyncIterator[Follower]:
        """Apply the plain example and follow it until the block ends."""
        await self.world.migrate()
        async with Follower(self.world.kubectl, MIGRATION) as seen:
            yield seen

    async def when_memory_runs_short_until_protection_holds(self, seen: Follower, pool: str) -> None:
        """Fill a pod of the pool, see what stops and what goes on, and free it again."""
        await seen.until(lambda migration: written(migration) > 0, seconds=300)
        async with pressure.memory_pressure(self.world.kubectl, pool):
            await seen.until(lambda migration: bool(migration["status"].get("emergency")), seconds=60)
            await self._then_background_work_stands_still()
            before = await self.world.tally()
            await asyncio.sleep(_WATCHED_SECONDS)
            after = await self.world.tally()
            assert (after["failed"], after["problems"]) == (0, [])
            assert (after["sent"] - before["sent"]) / (after["seconds"] - before["seconds"]) >= LEAST_QUERIES_PER_S
            # More at a time than an embedder lets in now: those turned away come again, and no caller knows of it.
            assert await pressure.burst(self.world.kubectl, _CALLERS) == [200] * _CALLERS
            found = await pressure.embedders(self.world.kubectl, OLD_POOL, NEW_POOL)
            assert {(one.pool, one.protected, one.entered) for one in found} == {
                (OLD_POOL, True, 1),
                (NEW_POOL, True, 1),
            }
            assert sum(one.turned_away for one in found if one.pool == OLD_POOL) > 0

    async def _then_background_work_stands_still(self) -> None:
        label = f"{KEY}/migration={MIGRATION}"
        unfinished = (f"--selector={label}", "--field-selector=status.phase!=Succeeded")
        await self.world.kubectl.run("wait", "pods", *unfinished, "--for=delete", "--timeout=60s")
        assert [job["spec"]["parallelism"] for job in await self.world.kubectl.list("jobs", label)] == [0]
        embedded = [one.background for one in await pressure.embedders(self.world.kubectl, NEW_POOL)]
        await asyncio.sleep(_WATCHED_SECONDS)
        assert [one.background for one in await pressure.embedders(self.world.kubectl, NEW_POOL)] == embedded

    async def then_protection_is_lifted_and_the_backfill_goes_on(self, seen: Follower) -> None:
        held = await seen.until(lambda migration: not migration["status"].get("emergency"), seconds=180)
        more = await seen.until(lambda migration: written(migration) > written(held), seconds=120)
        # What was left may be embedded before anybody looks.
        assert more["status"]["state"] in {"Backfilling", "Indexing", "Evaluating"}
        found = await pressure.embedders(self.world.kubectl, OLD_POOL, NEW_POOL)
        assert {one.protected for one in found} == {False}
        told = await self.events(more["metadata"]["uid"], "EmergencyBegan", "EmergencyEnded")
        assert told == ["EmergencyBegan", "EmergencyEnded"]

    async def events(self, uid: str, *reasons: str) -> list[str]:
        """Return those of an object's events that have one of these reasons, in the order of their times."""
        about = f"--field-selector=involvedObject.uid={uid}"
        found = json.loads(await self.world.kubectl.run("get", "events", about, "--output=json"))["items"]
        told = sorted((one["lastTimestamp"] or one["eventTime"], one["reason"]) for one in found)
        return [reason for _, reason in told if reason in reasons]

    async def when_the_migration_is_deleted(self) -> None:
        await self.world.kubectl.run("delete", "emig", MIGRATION, "--timeout=120s")

    async def routing(self) -> dict[str, Any]:
        index = await self.world.kubectl.get("embeddingindex", INDEX)
        assert index is not None
        return dict(index["status"]["routing"])

    async def collections(self) -> list[str]:
        """Return the names of the collections that the store holds."""
        return [str(name) for (name,) in await self.world.sql("SELECT name FROM reembed.collection ORDER BY name")]

    async def made_by_reembed(self) -> list[str]:
        """Return what Reembed made in the namespace and is still there, as kind/name."""
        kinds = "deployments,services,jobs,poddisruptionbudgets"
        listed = await self.world.kubectl.run(
            "get", kinds, "--selector=app.kubernetes.io/part-of=reembed", "--output=name"
        )
        return listed.split()

    async def then_nothing_is_left_of(self, migration: str, pool: str) -> None:
        """Pods may take their time to end; Jobs and collections were to be gone before the migration was."""
        assert await self.world.kubectl.list("jobs", f"{KEY}/migration={migration}") == []
        for label in (f"{KEY}/migration={migration}", f"{KEY}/pool={pool}"):
            await self.world.kubectl.run("wait", "pods", f"--selector={label}", "--for=delete", "--timeout=90s")

    async def then_deleting_is_refused(self, pool: str) -> str:
        """Return the words of the refusal."""
        try:
            await self.world.kubectl.run("delete", "embedderpool", pool, "--timeout=10s")
        except Failed as refusal:
            return str(refusal)
        raise AssertionError(f"pool {pool} was deleted while it answered queries")

    async def then_every_query_so_far_was_answered_well(self, seen: Follower) -> None:
        tally = await self.world.stop_load()
        then_every_query_was_answered(tally)
        assert judge(seen.truth, tally["sources"]).reasons == ()

    async def then_it_cost_nobody_anything(self, pool: str, *told: str) -> None:
        """These were a pool's events; no pod of it ran out of memory, and every query was answered."""
        found = await self.world.kubectl.get("epool", pool)
        assert found is not None
        assert await self.events(found["metadata"]["uid"], *told) == list(told)
        await pressure.then_nobody_ran_out_of_memory(self.world.kubectl, pool)
        tally = await self.world.stop_load()
        _log.info("%d queries, %d failed, p95 %s ms", tally["sent"], tally["failed"], tally["p95_ms"])
        then_every_query_was_answered(tally)

    def then_every_document_was_embedded_once(self, outcome: Outcome) -> None:
        assert outcome.embedded is not None
        assert 0 <= outcome.embedded - self.world.documents <= PROBE_TEXTS


def then_every_query_was_answered(tally: dict[str, Any]) -> None:
    assert (tally["failed"], tally["problems"]) == (0, [])
    assert sum(source["answers"] for source in tally["sources"]) == tally["sent"]
    assert tally["sent"] / tally["seconds"] >= LEAST_QUERIES_PER_S


def then_every_answer_was_right(outcome: Outcome) -> None:
    then_every_query_was_answered(dict(outcome.tally))
    assert outcome.judgement.reasons == ()
    # Vectors of one model searched with another's find almost nothing (MRR below 0.01), whatever names they carry.
    assert min(outcome.judgement.mrr.values()) > 0.2


def then_memory_stayed_within_limits(outcome: Outcome) -> None:
    peaks = {kind: getattr(outcome.memory, kind) for kind in _LIMITS_MIB}
    assert {kind: mib for kind, mib in peaks.items() if mib is None or mib >= _LIMITS_MIB[kind]} == {}


def states(outcome: Outcome) -> list[str]:
    """Return the states in the order in which they were entered; canary steps count one by one."""
    return [visit["state"] for visit in outcome.migration["status"]["timeline"]]


def example(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "examples" / name).read_text()))


def written(migration: Mapping[str, Any]) -> int:
    """Return how many documents have their vector."""
    return int((migration.get("status", {}).get("backfill") or {}).get("documents", 0))


def canary_step(status: Mapping[str, Any], step: int) -> bool:
    """Return whether a step of the canary is followed by every gateway."""
    return status.get("state") == "Canary" and status.get("step") == step and bool(status.get("stepAcknowledgedAt"))
