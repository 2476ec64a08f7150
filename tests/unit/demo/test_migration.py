"""What was seen of a migration is true although the pods that it was seen of are lost."""

import asyncio
import time

import pytest

from demo.follow import Follower
from demo.migration import Watching
from demo.world import World
from tests.unit.demo.fake_kubectl import FakeKubectl, FakePod
from tests.unit.demo.test_measure import embedder

FRESH = [embedder("a", 1.0, 2)]
FILLED = [embedder("a", 1.0, 1502)]
MORE = [embedder("a", 1.0, 1504)]
REPLACED = [embedder("b", 9.0, 1)]


async def counted(course: dict[str, list[FakePod]]) -> int | None:
    """Return the documents that were counted when a migration had gone through `course`."""
    kubectl = FakeKubectl("demo", course=course, waits=frozenset({"Backfilling", "Indexing"}))
    world = World(kubectl, "localhost/reembed-demo:1", 1500, 25.0)
    async with asyncio.timeout(10), Follower(kubectl, "to-l6") as seen:
        watching = Watching(world, seen, time.monotonic(), lambda line: None, readings=[{("a", 1.0): 2}])
        await asyncio.gather(watching.count(), seen.until_state(list(course)[-1]))
        await watching.count_again()
    return watching.embedded


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param({"Indexing": FILLED, "RolledBack": REPLACED}, 1500, id="a pod lost after the backfill"),
        pytest.param({"Indexing": FILLED, "RolledBack": []}, 1500, id="all pods gone after the backfill"),
        pytest.param({"Indexing": FILLED, "Succeeded": MORE}, 1502, id="work after the backfill counts too"),
        pytest.param({"Indexing": REPLACED, "Succeeded": REPLACED}, None, id="a pod lost in the backfill"),
    ],
)
async def test_documents_are_counted_before_the_pods_that_counted_them_are_lost(
    after: dict[str, list[FakePod]], expected: int | None
) -> None:
    assert await counted({"Preflight": FRESH, "Backfilling": FRESH, **after}) == expected
