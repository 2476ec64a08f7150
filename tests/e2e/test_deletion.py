"""What is deleted leaves nothing behind, and what answers queries cannot be deleted."""

from demo.world import MIGRATION, NEW_POOL, OLD_POOL
from tests.e2e.story import Story


async def test_a_deleted_migration_leaves_the_old_model_and_nothing_else(story: Story) -> None:
    await story.given_an_index_under_steady_queries()
    before = await story.collections()

    seen = await story.when_the_migration_is_deleted_in("Backfilling")

    assert await story.collections() == before
    await story.then_nothing_is_left_of(MIGRATION, NEW_POOL)
    assert (await story.routing())["serving"]["pool"] == OLD_POOL
    assert "is in use by EmbeddingIndex/functions" in await story.then_deleting_is_refused(OLD_POOL)
    await story.then_every_query_so_far_was_answered_well(seen)

    await story.world.clear()
    assert await story.made_by_reembed() == []
