"""A new model that stops answering loses its queries, and nobody notices but the operator."""

from collections.abc import Callable

from demo.stories import loses_candidate
from demo.world import OLD_POOL
from tests.e2e.story import Story, states, then_every_answer_was_right


async def test_a_candidate_that_dies_at_half_of_the_queries_is_taken_back_without_a_failed_query(
    story: Story, record_property: Callable[[str, object], None]
) -> None:
    await story.given_an_index_under_steady_queries()

    outcome = await story.when_it_migrates_impatiently([loses_candidate(story.world)])

    assert states(outcome)[-3:] == ["Canary", "RollingBack", "RolledBack"]
    assert outcome.migration["status"]["reason"] == "ErrorRate"
    then_every_answer_was_right(outcome)
    assert outcome.judgement.fell_back > 0  # it did fail: callers were answered by the old model instead
    assert outcome.until_zero is not None
    record_property("seconds_from_decision_to_weight_zero", round(outcome.until_zero, 2))
    routing = await story.routing()
    assert (routing["serving"]["pool"], routing.get("weight", 0)) == (OLD_POOL, 0)
