"""An index moves to a better model while it is asked, and the operator dies on the way."""

from demo.stories import kills
from demo.world import NEW_POOL
from tests.e2e.story import Story, states, then_every_answer_was_right, then_memory_stayed_within_limits


async def test_no_query_is_lost_and_no_work_done_twice_although_the_operator_is_killed_twice(story: Story) -> None:
    await story.given_an_index_under_steady_queries()

    outcome = await story.when_it_migrates([kills(story.system, "Backfilling"), kills(story.system, "Canary")])

    assert states(outcome) == [
        "Preflight", "Backfilling", "Indexing", "Evaluating", "Canary", "Canary", "Canary", "Retaining", "Promoting",
        "Succeeded",
    ]  # fmt: skip
    then_every_answer_was_right(outcome)
    story.then_every_document_was_embedded_once(outcome)
    then_memory_stayed_within_limits(outcome)
    assert (await story.routing())["serving"]["pool"] == NEW_POOL
