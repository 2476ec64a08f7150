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

# What a story claims fails with its values, as in a test's own file.
pytest.register_assert_rewrite(
    *(
        f"tests.e2e.{name}"
        for name in ("hooking", "panel", "people", "plugin", "pressure", "recycling", "scaling", "story", "writing")
    )
)

from tests.e2e.story import Story  # noqa: E402 - after the line above, which has to come before the import

NAMESPACES = (
    "reembed-e2e-migration",
    "reembed-e2e-rollback",
    "reembed-e2e-deletion",
    "reembed-e2e-teardown",
    "reembed-e2e-scaling",
    "reembed-e2e-hosted",
    "reembed-e2e-memory",
    "reembed-e2e-killed",
    "reembed-e2e-leak",
    "reembed-e2e-writes",
    "reembed-e2e-panel",
)
_DOCUMENTS = 600
# Where something has to happen during a backfill, it must last long enough on a fast machine, too.
_MANY_DOCUMENTS = 3_000
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
    # There is no GPU here: what is shown of them needs an image that computes without one as well.
    await release.install(embedderGpu="embedder")


def world(release: Release, namespace: str) -> World:
    documents = _MANY_DOCUMENTS if namespace == "reembed-e2e-deletion" else _DOCUMENTS
    return World(Kubectl.of_environment(namespace), release.image("demo"), documents, _QUERIES_PER_SECOND)


@pytest.fixture
async def story(release: Release, request: pytest.FixtureRequest) -> AsyncIterator[Story]:
    """A story in the namespace that the test's module is named after."""
    kind = request.module.__name__.rpartition("test_")[2]
    here = world(release, f"reembed-e2e-{kind}")
    await clear(here)
    yield Story(here, release.kubectl)
    await clear(here)


async def clear(here: World) -> None:
    """Delete what a story leaves, and what hooks and labels it had made besides."""
    await here.clear()
    await here.kubectl.run("delete", "cronjobs,configmaps", "--selector=app.kubernetes.io/part-of=reembed-demo")
