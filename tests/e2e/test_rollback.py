"""A new model that stops answering loses its queries, and nobody notices but the operator.

Meanwhile the release is upgraded, and the upgrade is taken back.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from demo.install import Release
from demo.migration import Disturbance
from demo.stories import loses_candidate, well_into
from demo.world import MIGRATION, OLD_POOL
from tests.e2e import hooking
from tests.e2e.plugin import accepted, reembed
from tests.e2e.story import Story, states, then_every_answer_was_right


async def test_a_candidate_that_dies_while_it_awaits_approval_is_taken_back_without_a_failed_query(
    story: Story, release: Release, record_property: Callable[[str, object], None]
) -> None:
    await story.given_an_index_under_steady_queries()
    await story.given_a_receiver_of_hooks()
    await story.given_labels_in_a_config_map()
    kubectl = story.world.kubectl

    async with hooking.weights(kubectl) as weights:
        outcome = await story.when_it_migrates_by_slices_impatiently(
            [*upgraded_and_taken_back(release), loses_candidate(story.world)]
        )

    assert states(outcome)[-3:] == ["Canary", "RollingBack", "RolledBack"]
    assert outcome.migration["status"]["reason"] == "ErrorRate"
    slices = outcome.migration["status"]["evaluation"]["slices"]
    assert {(one["name"], one["verdict"]) for one in slices} == {
        ("functions", "NoHarmSeen"),
        ("methods", "NoHarmSeen"),
    }
    then_every_answer_was_right(outcome)
    assert outcome.judgement.fell_back > 0  # it did fail: callers were answered by the old model instead
    assert outcome.until_zero is not None
    record_property("seconds_from_decision_to_weight_zero", round(outcome.until_zero, 2))
    routing = await story.routing()
    assert (routing["serving"]["pool"], routing.get("weight", 0)) == (OLD_POOL, 0)

    heard, uid = await hooking.calls(kubectl), outcome.migration["metadata"]["uid"]
    runs = ["1/Pre/release-calendar", "1/EachStep/0/announce", "1/EachStep/1/announce", "1/Rollback/on-call"]
    hooking.then_every_run_was_repeated_with_one_key(heard, uid, runs)
    hooking.then_no_weight_rose_before_its_hook_succeeded(heard, weights, steps=[10, 50])

    await then_another_attempt_can_be_begun_and_aborted(story)
    heard = await hooking.calls(kubectl)
    hooking.then_every_run_was_repeated_with_one_key(heard, uid, [*runs, "2/Rollback/on-call"])


def upgraded_and_taken_back(release: Release) -> list[Disturbance]:
    """Have the release upgraded before queries move, and the upgrade undone in Canary: each replaces both operators."""
    done = asyncio.Event()

    async def upgrade() -> None:
        await release.upgrade("operator.podAnnotations.story", "upgraded")
        done.set()

    async def take_back() -> None:
        await done.wait()
        await release.roll_back()

    return [
        Disturbance("release upgraded", _queries_will_move, upgrade),
        Disturbance("release rolled back in Canary", _queries_move, take_back),
    ]


def _queries_will_move(migration: Mapping[str, Any]) -> bool:
    # A backfill of few documents is over between two looks.
    return migration.get("status", {}).get("state") in {"Backfilling", "Indexing", "Evaluating"}


def _queries_move(migration: Mapping[str, Any]) -> bool:
    return well_into(migration.get("status", {}), "Canary")


async def then_another_attempt_can_be_begun_and_aborted(story: Story) -> None:
    """The new model's pods are still away, so that the attempt waits for them until it is aborted."""
    kubectl = story.world.kubectl
    ended = await reembed(kubectl, "status", MIGRATION)
    assert (ended.code, "ErrorRate" in ended.out or "RolledBack" in ended.out) == (1, True), ended
    await accepted(kubectl, "retry", MIGRATION)
    waits = asyncio.create_task(reembed(kubectl, "status", MIGRATION, "--timeout", "2m"))
    await accepted(kubectl, "abort", MIGRATION)
    aborted = await waits
    assert (aborted.code, "RolledBack" in aborted.out) == (1, True), aborted
