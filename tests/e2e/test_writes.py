"""An application goes on writing through a whole migration, whatever is killed on the way, and nothing is lost."""

import logging

import pytest

from demo.migration import migrate
from tests.e2e import writing
from tests.e2e.story import Story, then_every_answer_was_right

_log = logging.getLogger("stories")

_WRITES_PER_SECOND = 200


@pytest.mark.soak  # two hundred writes a second leave a machine of two cores no room for other tests
async def test_nothing_written_during_a_migration_is_lost_although_who_follows_it_is_killed(story: Story) -> None:
    await story.given_an_index_under_steady_queries()
    world = story.world
    await world.start_writer(_WRITES_PER_SECOND)
    both: dict[str, list[int]] = {}
    disturbances = [
        writing.kills_who_follows(world, "Backfilling"),
        writing.kills_who_follows(world, "Canary"),
        writing.looks_at_both_sides(world, both),
    ]

    async with writing.watched(world.kubectl) as lags:
        outcome = await migrate(world, world.migrate, disturbances, _log.info)
    written = await world.stop_writer()
    await writing.settled(world, seconds=60)

    _log.info("written: %s", written)
    _log.info("lag of %d looks: p50 %.2f s, p99 %.2f s", len(lags.seconds), lags.percentile(0.5), lags.percentile(0.99))
    assert outcome.state == "Succeeded", outcome.migration["status"]
    then_every_answer_was_right(outcome)
    assert (written["failed"], written["problems"]) == (0, [])
    assert min(written["done"][kind] for kind in ("texts", "added", "deleted")) > 0
    assert list(both.values()) == [[], []]
    assert list((await writing.wrong(world)).values()) == [[]]
