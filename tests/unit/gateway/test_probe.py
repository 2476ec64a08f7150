"""Both arms are probed without callers, and a gateway is ready when what serves has answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from reembed.client import EmbedderUnavailable
from reembed.core.measures import counted
from reembed.core.model import Arm, Routing
from reembed.gateway.answer import Answering, Deadlines
from reembed.gateway.embedders import Embedders
from reembed.gateway.guard import Guard
from reembed.gateway.in_force import RoutingInForce
from reembed.gateway.lease import Reading, renewed
from reembed.gateway.meter import Meter
from reembed.gateway.probe import Prober
from reembed.gateway.queries import Queries
from tests.fixtures.arms import NEW, OLD, FakeEmbedder, FakeStore
from tests.fixtures.exposition import samples

AT_ZERO = Routing(epoch=7, serving=OLD, candidate=NEW, weight=0)

pytestmark = pytest.mark.looptime


class World:
    def __init__(self) -> None:
        self.clients = {OLD: FakeEmbedder(OLD.fingerprint), NEW: FakeEmbedder(NEW.fingerprint)}
        self.held = RoutingInForce()
        self.meter = Meter()
        embedders = Embedders(self.clients.__getitem__)
        queries = Queries(embedders, FakeStore([OLD, NEW]), searches_per_arm=6)
        self.prober = Prober(self.held, Answering(self.meter, Deadlines(), Guard(64)), queries, embedders)

    def tell(self, routing: Routing) -> None:
        self.held.hold(renewed(self.held.lease, Reading("uid", routing), asyncio.get_running_loop().time()))

    def probes(self) -> dict[str, tuple[int, int]]:
        """Return (ok, errors) by collection."""
        found = counted(samples(self.meter))
        return {name: (counters.probes.ok, counters.probes.errors) for name, counters in found.items()}


@asynccontextmanager
async def probing(world: World, seconds: float) -> AsyncIterator[None]:
    task = asyncio.create_task(world.prober.run())
    await asyncio.sleep(seconds)
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def world() -> World:
    return World()


async def test_both_arms_are_probed_every_five_seconds_at_weight_zero_too(world: World) -> None:
    world.tell(AT_ZERO)
    world.clients[NEW].error = EmbedderUnavailable("connection refused")
    async with probing(world, 61):
        assert world.probes() == {"c_old": (13, 0), "c_new": (0, 13)}


async def test_a_hanging_candidate_does_not_keep_what_serves_from_its_probes(world: World) -> None:
    world.tell(AT_ZERO)
    world.clients[NEW].seconds = 3600
    async with probing(world, 61):
        assert world.probes() == {"c_old": (13, 0), "c_new": (0, 12)}


async def test_a_gateway_is_not_ready_before_it_has_read_its_index(world: World) -> None:
    async with probing(world, 20):
        assert not world.prober.ready


async def test_an_index_without_vectors_is_ready(world: World) -> None:
    world.tell(Routing())
    async with probing(world, 0.1):
        assert world.prober.ready


async def test_a_gateway_is_ready_soon_after_what_serves_answers(world: World) -> None:
    world.tell(AT_ZERO)
    world.clients[OLD].error = EmbedderUnavailable("connection refused")
    async with probing(world, 20):
        assert not world.prober.ready
        world.clients[OLD].error = None
        await asyncio.sleep(0.5)
        assert world.prober.ready


async def test_a_dead_candidate_does_not_keep_a_gateway_from_being_ready(world: World) -> None:
    world.tell(AT_ZERO)
    world.clients[NEW].error = EmbedderUnavailable("connection refused")
    async with probing(world, 0.1):
        assert world.prober.ready


@pytest.mark.parametrize("then", [AT_ZERO, Routing(epoch=8, serving=NEW)], ids=["it fails", "another arm serves"])
async def test_a_ready_gateway_stays_ready(world: World, then: Routing) -> None:
    world.tell(AT_ZERO)
    async with probing(world, 1):
        world.tell(then)
        for client in world.clients.values():
            client.error = EmbedderUnavailable("connection refused")
        await asyncio.sleep(20)
        assert world.prober.ready


async def test_the_client_of_an_arm_that_left_the_routing_is_closed(world: World) -> None:
    world.tell(AT_ZERO)
    async with probing(world, 1):
        world.tell(Routing(epoch=8, serving=OLD))
        await asyncio.sleep(10)
        assert (world.clients[OLD].closed, world.clients[NEW].closed) == (False, True)


async def test_a_client_is_not_closed_under_a_request() -> None:
    embedder = FakeEmbedder(OLD.fingerprint)
    embedders = Embedders(lambda _: embedder)
    async with embedders.using(OLD):
        await embedders.keep(set())
        assert not embedder.closed
    await embedders.keep(set())
    assert embedder.closed


async def test_an_arm_has_one_client() -> None:
    made: list[Arm] = []

    def connect(arm: Arm) -> FakeEmbedder:
        made.append(arm)
        return FakeEmbedder(arm.fingerprint)

    embedders = Embedders(connect)
    async with embedders.using(OLD) as first, embedders.using(OLD) as second:
        assert (first is second, made) == (True, [OLD])
