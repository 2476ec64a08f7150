"""With a real API server: what a gateway reads from an EmbeddingIndex, and how fast a change arrives."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reembed.api import render_index_status
from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.core import names
from reembed.core.model import IndexStatus, Routing
from reembed.gateway.accepting import Accepting, Judging
from reembed.gateway.follow import Follower, SourceError
from reembed.gateway.in_force import RoutingInForce
from reembed.gateway.lease import Reading
from reembed.gateway.meter import Meter
from reembed.gateway.routing_source import IndexSource
from tests.fixtures.arms import NEW, OLD

CANARY = Routing(epoch=7, serving=OLD, candidate=NEW, weight=50)
SPEC = {
    "store": {
        "ownerSecretRef": {"name": "store", "key": "owner"},
        "gatewaySecretRef": {"name": "store", "key": "gateway"},
    },
    "source": {"table": "docs", "idColumn": "id", "textColumn": "body"},
}


class Index:
    """One EmbeddingIndex in the API server."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.meta = {"namespace": namespace, "name": "docs"}
        self.source = IndexSource(cluster, namespace, "docs")

    async def create(self) -> str:
        found = await self.cluster.apply(kinds.INDEX, {"metadata": self.meta, "spec": SPEC}, manager="reembed-test")
        return str(found["metadata"]["uid"])

    async def route(self, routing: Routing) -> None:
        status = render_index_status(IndexStatus(routing=routing))
        body = {"metadata": self.meta, "status": status}
        await self.cluster.apply(kinds.INDEX, body, manager="reembed-routing", subresource="status")

    async def annotate(self, value: str | None) -> None:
        change = {"metadata": {"annotations": {names.ANNOTATION_FORCE_STABLE: value}}}
        await self.cluster.patch(kinds.INDEX, self.namespace, "docs", change, manager="reembed-test")


@pytest.fixture
async def index(apiserver_with_crds: Path, namespace: str) -> AsyncIterator[Index]:
    async with Cluster.connect(str(apiserver_with_crds)) as cluster:
        yield Index(cluster, namespace)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - the follower offers no event, and needs none
            await asyncio.sleep(0.01)


@asynccontextmanager
async def following(index: Index) -> AsyncIterator[RoutingInForce]:
    held = RoutingInForce()
    task = asyncio.create_task(Follower(index.source, held, Accepting(held, None, Meter(), Judging())).run())
    await eventually(lambda: held.known)
    yield held
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_index_that_is_not_there_is_an_answer(index: Index) -> None:
    assert await index.source.read() is None


async def test_a_new_index_has_no_routing(index: Index) -> None:
    uid = await index.create()
    assert await index.source.read() == Reading(uid, Routing())


async def test_the_routing_is_read_as_it_was_written(index: Index) -> None:
    uid = await index.create()
    await index.route(CANARY)
    assert await index.source.read() == Reading(uid, CANARY)


@pytest.mark.parametrize(("value", "forced"), [("true", True), ("", True), ("false", False), (None, False)])
async def test_the_annotation_forces_the_stable_side(index: Index, value: str | None, forced: bool) -> None:
    await index.create()
    await index.annotate(value)
    reading = await index.source.read()
    assert reading is not None
    assert reading.force_stable is forced


async def test_changes_arrive_by_the_watch(index: Index) -> None:
    await index.create()
    async with following(index) as held:
        await index.route(CANARY)
        await eventually(lambda: held.snapshot() == CANARY)
        await index.annotate("true")
        await eventually(lambda: held.snapshot().weight == 0)
        await index.annotate(None)
        await eventually(lambda: held.snapshot().weight == 50)
        await index.cluster.delete(kinds.INDEX, index.namespace, "docs")
        await eventually(lambda: held.snapshot() == Routing(epoch=7, serving=OLD))


@pytest.fixture
def unreachable(apiserver_with_crds: Path, tmp_path: Path) -> Path:
    """Return a kubeconfig of an API server that nobody listens for."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(re.sub(r"https://[\w.:\[\]]+", "https://127.0.0.1:1", apiserver_with_crds.read_text()))
    return kubeconfig


async def test_an_api_server_that_is_gone_is_no_answer(unreachable: Path) -> None:
    async with Cluster.connect(str(unreachable)) as cluster:
        source = IndexSource(cluster, "rag", "docs")
        with pytest.raises(SourceError):
            await source.read()
        with pytest.raises(SourceError):
            await anext(source.changes())
