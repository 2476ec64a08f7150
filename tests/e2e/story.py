"""What the stories say: given a world, when something is done to it, then what was seen.

Each verb is a few calls of the demo's own parts, so that a story and `make demo` mean the same by "answered". A story
fails in the words of the first thing that was not as it should be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from demo.follow import Follower
from demo.judge import judge
from demo.kubectl import KEY, Failed, Kubectl
from demo.migration import Disturbance, Outcome, migrate
from demo.report import LEAST_QUERIES_PER_S, PROBE_TEXTS
from demo.world import FIRST_EXAMPLES, INDEX, MIGRATION, World

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

    async def given_an_index_that_is_being_filled(self) -> None:
        await self.world.apply_example(*FIRST_EXAMPLES)
        finalizer = "--for=jsonpath={.metadata.finalizers[0]}=reembed.dev/unwind"
        for kind in ("embedderpools", "embeddingindexes", "embeddingmigrations"):
            await self.world.kubectl.run("wait", kind, "--all", finalizer, "--timeout=30s")

    async def when_the_namespace_is_deleted(self) -> None:
        """Delete it with everything in it, and wait until it is gone."""
        await self.system.run("delete", "namespace", self.world.kubectl.namespace, "--timeout=120s")

    async def when_it_migrates(self, disturbances: Sequence[Disturbance]) -> Outcome:
        return await migrate(self.world, self.world.migrate, disturbances)

    async def when_it_migrates_impatiently(self, disturbances: Sequence[Disturbance]) -> Outcome:
        return await migrate(self.world, self.world.migrate_impatiently, disturbances)

    async def when_the_migration_is_deleted_in(self, state: str) -> Follower:
        """Delete the migration as soon as it is in a state; return what was seen of it and its index."""
        await self.world.migrate()
        async with Follower(self.world.kubectl, MIGRATION) as seen:
            await seen.until_state(state)
            await self.world.kubectl.run("delete", "emig", MIGRATION, "--timeout=120s")
        return seen

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
