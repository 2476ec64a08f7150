"""An index moves to a better model while it is asked; others have a say in it, and the operator dies on the way."""

from demo import chaos
from demo.migration import Disturbance
from demo.stories import kills
from demo.world import MIGRATION, NEW_POOL
from tests.e2e import hooking
from tests.e2e.people import approves, ends_the_window, pauses_and_resumes
from tests.e2e.plugin import reembed
from tests.e2e.story import Story, states, then_every_answer_was_right, then_memory_stayed_within_limits


async def test_no_query_is_lost_and_no_work_done_twice_although_the_operator_is_killed_twice(story: Story) -> None:
    await story.given_an_index_under_steady_queries()
    await story.given_a_receiver_of_hooks()
    kubectl = story.world.kubectl
    people = [approves(kubectl), pauses_and_resumes(kubectl, step=1), ends_the_window(kubectl)]

    async with hooking.weights(kubectl) as weights:
        outcome = await story.when_it_migrates_with_hooks_and_gates(
            [kills(story.system, "Backfilling"), kills_while_a_hook_runs(story, "1/EachStep/1"), *people]
        )

    assert states(outcome) == [
        "Preflight", "Backfilling", "Indexing", "Evaluating", "Canary", "Canary", "Retaining", "Promoting", "Succeeded",
    ]  # fmt: skip
    then_every_answer_was_right(outcome)
    story.then_every_document_was_embedded_once(outcome)
    then_memory_stayed_within_limits(outcome)
    assert (await story.routing())["serving"]["pool"] == NEW_POOL
    heard, uid = await hooking.calls(kubectl), outcome.migration["metadata"]["uid"]
    runs = ["1/Pre/release-calendar", "1/EachStep/0/announce", "1/EachStep/1/announce", "1/Post/clean-up"]
    hooking.then_every_run_was_repeated_with_one_key(heard, uid, runs)
    hooking.then_no_weight_rose_before_its_hook_succeeded(heard, weights, steps=[30, 100])
    assert hooking.recorded(outcome.migration) == [
        ("1/Pre", "release-calendar", "Succeeded", "hooks:8080 answered 200: noted release-calendar"),
        ("1/EachStep/0", "announce", "Succeeded", "hooks:8080 answered 200: noted announce"),
        ("1/EachStep/1", "announce", "Succeeded", "hooks:8080 answered 200: noted announce"),
        ("1/Post", "clean-up", "Succeeded", "noted a Job"),
    ]
    ended = await reembed(kubectl, "status", MIGRATION, "--timeout", "10s")
    assert (ended.code, "Succeeded" in ended.out) == (0, True), ended


def kills_while_a_hook_runs(story: Story, at: str) -> Disturbance:
    return Disturbance(
        name=f"operator killed while the hook of {at} runs",
        when=lambda migration: any(
            (run["at"], run["state"]) == (at, "Running") for run in migration.get("status", {}).get("hooks", ())
        ),
        act=lambda: chaos.kill_operator(story.system),
    )
