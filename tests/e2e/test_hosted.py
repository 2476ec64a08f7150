"""An index moves to a model that somebody else hosts: within a budget, at the endpoint's pace, and nobody notices."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from demo.kubectl import Kubectl
from demo.world import HOSTED_EXAMPLE, HOSTED_POOL, MIGRATION, OLD_POOL
from tests.e2e.scaling import pool_is
from tests.e2e.story import Story, example, then_every_query_was_answered

# Far less than the documents have.
_BUDGET = 5_000
_KEY = "sk-of-the-story"


async def test_an_index_moves_to_a_hosted_model_and_waits_when_its_budget_is_spent(story: Story) -> None:
    await story.given_an_index_under_steady_queries()
    kubectl = story.world.kubectl
    await given_a_hosted_pool(kubectl, endpoint=OLD_POOL, budget=_BUDGET)

    await migrate(kubectl)
    waiting = await migration_is(kubectl, lambda status: status.get("reason") == "BudgetSpent", seconds=180)
    pool = await pool_is(kubectl, lambda status: "external" in status, seconds=10, pool=HOSTED_POOL)
    assert (waiting["state"], pool["phase"]) == ("Backfilling", "Ready")
    assert _BUDGET * 0.5 < pool["external"]["spentTokens"] <= _BUDGET
    assert degraded(pool) == "BudgetSpent"

    await patch(kubectl, {"budget": {"tokens": 10**9}})
    await migration_is(kubectl, lambda status: status.get("state") == "Retaining", seconds=300)
    routing = await story.routing()
    assert (routing["candidate"]["pool"], routing["weight"]) == (HOSTED_POOL, 100)
    pool = await pool_is(kubectl, lambda status: degraded(status) == "AsExpected", seconds=30, pool=HOSTED_POOL)
    assert pool["external"]["failedChecks"] == 0
    then_every_query_was_answered(await story.world.stop_load())
    told = await kubectl.run("get", "epool,emig,eidx,events,pods,deployments", "--output=yaml")
    assert _KEY not in told


async def given_a_hosted_pool(kubectl: Kubectl, endpoint: str, budget: int) -> None:
    """Have the example's pool, whose endpoint is another pool's Service: embedders speak the same API."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "openai"}, "stringData": {"token": _KEY}}
    await kubectl.apply(json.dumps(secret))
    pool = example(HOSTED_EXAMPLE)
    url = f"http://reembed-embedder-{endpoint}:8080/v1"
    pool["spec"]["external"] |= {"url": url, "dimensions": 384, "budget": {"tokens": budget}}
    await kubectl.apply(json.dumps(pool))


async def migrate(kubectl: Kubectl) -> None:
    """Have a migration to the hosted pool, whose endpoint must go on until the story ends."""
    migration = example("migration.yaml")
    migration["spec"] |= {"target": {"poolRef": {"name": HOSTED_POOL}}, "retention": {"window": "10m"}}
    await kubectl.apply(json.dumps(migration))


async def patch(kubectl: Kubectl, external: dict[str, Any]) -> None:
    change = json.dumps({"spec": {"external": external}})
    await kubectl.run("patch", "epool", HOSTED_POOL, "--type=merge", f"--patch={change}")


async def migration_is(kubectl: Kubectl, wanted: Callable[[dict[str, Any]], bool], seconds: int) -> dict[str, Any]:
    """Return the migration's status as soon as it is as wanted."""
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = ((await kubectl.get("emig", MIGRATION)) or {}).get("status") or {}
                if wanted(found):
                    return found
                await asyncio.sleep(1.0)
    except TimeoutError:
        raise AssertionError(f"the migration's status stayed at {found}") from None


def degraded(status: dict[str, Any]) -> str:
    (reason,) = (one["reason"] for one in status["conditions"] if one["type"] == "Degraded")
    return str(reason)
