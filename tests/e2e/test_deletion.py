"""What is deleted leaves nothing behind, and what answers queries cannot be deleted; on the way, memory runs short."""

from demo.world import MIGRATION, NEW_POOL, OLD_POOL
from tests.e2e.story import Story


async def test_memory_that_runs_short_stops_what_can_wait_and_a_deleted_migration_leaves_the_old_model_alone(
    story: Story,
) -> None:
    await story.given_an_index_under_steady_queries()
    before = await story.collections()

    async with story.when_it_migrates() as seen:
        await story.when_memory_runs_short_until_protection_holds(seen, NEW_POOL)
        await story.then_protection_is_lifted_and_the_backfill_goes_on(seen)
        await story.when_the_migration_is_deleted()

    assert await story.collections() == before
    await story.then_nothing_is_left_of(MIGRATION, NEW_POOL)
    assert (await story.routing())["serving"]["pool"] == OLD_POOL
    assert "is in use by EmbeddingIndex/functions" in await story.then_deleting_is_refused(OLD_POOL)
    await story.then_every_query_so_far_was_answered_well(seen)

    await story.world.clear()
    assert await story.made_by_reembed() == []
