"""A cluster with the operator installed, and a world of its own for every story.

`make test-e2e` brings up the cluster, builds the images and says where both are. A story that ends, well or not, gives
its machine back: pods of one story would starve the next.
"""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from demo.install import Release
from demo.kubectl import Kubectl
from demo.world import World
from tests.e2e.story import Story

NAMESPACES = ("reembed-e2e-migration", "reembed-e2e-rollback", "reembed-e2e-deletion", "reembed-e2e-teardown")
_DOCUMENTS = 600
_QUERIES_PER_SECOND = 21.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e" in item.path.as_posix():
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def release() -> Release:
    """The operator, watching the namespaces of all stories."""
    if "KUBECONFIG" not in os.environ:
        pytest.fail("the stories need a cluster that runs pods; run `make test-e2e`")
    found = Release.of_environment(*NAMESPACES)
    asyncio.run(_install(found))
    return found


async def _install(release: Release) -> None:
    for namespace in release.watched:
        await world(release, namespace).make_namespace()
    await release.install()


def world(release: Release, namespace: str) -> World:
    return World(Kubectl.of_environment(namespace), release.image("demo"), _DOCUMENTS, _QUERIES_PER_SECOND)


@pytest.fixture
async def story(release: Release, request: pytest.FixtureRequest) -> AsyncIterator[Story]:
    """A story in the namespace that the test's module is named after."""
    kind = request.module.__name__.rpartition("test_")[2]
    here = world(release, f"reembed-e2e-{kind}")
    await here.clear()
    yield Story(here, release.kubectl)
    await here.clear()
