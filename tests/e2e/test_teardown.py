"""A namespace that is deleted takes everything in it along, half-made or not. The last story: its namespace is gone."""

from tests.e2e.story import Story


async def test_a_deleted_namespace_is_gone_although_the_operators_rights_in_it_go_first(story: Story) -> None:
    await story.given_an_index_that_is_being_filled()
    await story.when_the_namespace_is_deleted()
