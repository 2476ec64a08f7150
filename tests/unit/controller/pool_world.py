"""One namespace with pools that an index uses, pods that say what they carry, and a clock that tests move."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from reembed.api import render_index_status
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError
from reembed.cluster.kinds import Kind
from reembed.controller import classes, hosting
from reembed.controller.cache import Cache, Key
from reembed.controller.loop import Ended
from reembed.controller.nodes import Nodes
from reembed.controller.pool_metrics import PoolMetrics
from reembed.controller.pools import Pools
from reembed.controller.scrape import Sample
from reembed.controller.settings import Images, Settings
from reembed.controller.sizes import PoolLooks, Sizes
from reembed.controller.typed import Typed
from reembed.controller.web import Metrics
from reembed.controller.writer import Writer
from reembed.core import names
from reembed.core.model import Arm, IndexStatus, Routing
from tests import builders as b
from tests.unit.controller.fakes import FakeCluster, Object

IMAGES = Images("engine:1", "gateway:1", "backfill:1", "IfNotPresent", embedder_gpu="gpu:1")


class Server(FakeCluster):
    """Also takes what is created."""

    def __init__(self) -> None:
        super().__init__(generations=True)
        self.events: list[tuple[str, str]] = []
        self.evicted: list[str] = []
        self.looked = 0  # for ConfigMaps
        self.refuses: ClusterError | None = None  # what is answered to who makes one
        self.refuses_evictions: ClusterError | None = None

    async def create(self, kind: Kind, namespace: str, obj: Object, *, manager: str) -> Object:
        if kind == kinds.eviction(obj["metadata"]["name"]):
            if self.refuses_evictions is not None:
                raise self.refuses_evictions
            self.evicted.append(obj["metadata"]["name"])
        elif kind == kinds.CONFIG_MAP:
            return await self._config_map(obj)
        else:
            self.events.append((obj["reason"], obj["message"]))
        return obj

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        self.looked += kind == kinds.CONFIG_MAP
        return await super().get(kind, namespace, name)

    async def _config_map(self, obj: Object) -> Object:
        if self.refuses is not None:
            raise self.refuses
        return self.write(kinds.CONFIG_MAP, obj)

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        self.gone(kind, namespace, name)


class Scrape:
    """What pods answer."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def metrics(self, addresses: Mapping[str, str]) -> dict[str, list[Sample]]:
        self._world.asked += 1
        return {pod: self._world.says[pod] for pod in addresses if pod in self._world.says}

    async def json(self, addresses: Mapping[str, str], path: str) -> dict[str, Any]:
        said = {hosting.PATH: self._world.hosted, classes.PATH: self._world.classes}.get(path, self._world.loading)
        return {pod: said[pod] for pod in addresses if pod in said}

    async def put(self, addresses: Mapping[str, str], path: str, body: Mapping[str, Any]) -> tuple[str, ...]:
        assert path == hosting.PATH
        self._world.granted |= dict.fromkeys(addresses, body)
        return tuple(addresses)


class World:
    """What Pools sees."""

    def __init__(self, images: Images = IMAGES) -> None:
        self.server = Server()
        self.cache = Cache()
        self.now = b.NOON
        self.asked = 0
        self.says: dict[str, list[Sample]] = {}  # by pod
        self.loading: dict[str, Object] = {}  # by pod
        self.hosted: dict[str, Object] = {}  # by pod
        self.classes: dict[str, Any] = {}  # by pod
        self.granted: dict[str, Object] = {}  # what each pod was told last
        self.process = Metrics()
        self.operate(images)

    def operate(self, images: Images) -> None:
        """Start another operator, which remembers nothing."""
        settings, typed = Settings(("rag",), images), Typed(self.cache)
        looks = PoolLooks.by(Scrape(self), self.server)
        self.sizes = Sizes(self.cache, typed, looks, Nodes(self.server), settings)  # type: ignore[arg-type]
        writer = Writer(self.server, self.cache)
        self.figures = PoolMetrics(self.process.recycled)
        self.pools = Pools(self.cache, typed, writer, self.sizes, self.figures, self._clock)

    def _clock(self) -> datetime:
        return self.now

    def put(self, kind: Kind, obj: Object) -> Object:
        written = self.server.write(kind, {"metadata": {"namespace": "rag", **obj.pop("metadata")}, **obj})
        self.cache.put(kind, written)
        return written

    def pool(self, name: str = "old", variants: list[Object] | None = None, **spec: Any) -> None:
        """Have a pool that index `docs` sends its queries to, if it is called old."""
        model = {"uri": "http://m/m.gguf", "sha256": "a" * 64, "pooling": "Mean", "dimensions": 384, "maxTokens": 256}
        meta = {"name": name, "finalizers": [names.FINALIZER]}
        self.put(kinds.POOL, {"metadata": meta, "spec": {"model": model, "variants": variants or [CPU], **spec}})

    def external(self, name: str = "old", **spec: Any) -> None:
        """Have a pool of a hosted model."""
        hosted = {"url": "https://api.example/v1", "model": "small", "dimensions": 384, "replicas": 2, **spec}
        self.put(
            kinds.POOL, {"metadata": {"name": name, "finalizers": [names.FINALIZER]}, "spec": {"external": hosted}}
        )

    def index(self, *pools: str) -> None:
        """Have an index for each pool."""
        store = {"ownerSecretRef": {"name": "s", "key": "o"}, "gatewaySecretRef": {"name": "s", "key": "g"}}
        source = {"table": "docs", "idColumn": "id", "textColumn": "body"}
        for pool in pools:
            status = IndexStatus(routing=Routing(epoch=3, serving=Arm(pool, f"c_{pool}", "f")))
            self.put(
                kinds.INDEX,
                {
                    "metadata": {"name": f"docs-{pool}"},
                    "spec": {"store": store, "source": source},
                    "status": render_index_status(status),
                },
            )

    async def passes(self, pool: str = "old", seconds: float = 0.0) -> timedelta:
        """Have a pass after some time."""
        self.now += timedelta(seconds=seconds)
        again = await self.pools.reconcile(Key(kinds.POOL, "rag", pool))
        assert not isinstance(again, Ended)
        return again

    def status(self, pool: str = "old") -> Object:
        return self.server.objects[Key(kinds.POOL, "rag", pool)]["status"]

    def deployment(self, variant: str = "cpu", pool: str = "old") -> Object:
        return self.server.objects[Key(kinds.DEPLOYMENT, "rag", f"reembed-embedder-{pool}-{variant}")]

    def sizes_now(self, pool: str = "old") -> dict[str, int]:
        start = f"reembed-embedder-{pool}-"
        found = [one for key, one in self.server.objects.items() if key.kind == kinds.DEPLOYMENT]
        return {
            one["metadata"]["name"].removeprefix(start): one["spec"]["replicas"]
            for one in found
            if one["metadata"]["name"].startswith(start)
        }

    def up(self, variant: str = "cpu", pool: str = "old", ready: int | None = None) -> list[str]:
        """Have the pods that a Deployment asks for; those that are not ready find no node."""
        deployment = self.deployment(variant, pool)
        meta, wanted = deployment["metadata"], deployment["spec"]["replicas"]
        ready = wanted if ready is None else ready
        status = {"readyReplicas": ready, "updatedReplicas": wanted, "observedGeneration": meta["generation"]}
        self.put(kinds.DEPLOYMENT, {**deployment, "status": status})
        found = []
        for number in range(wanted):
            pod = f"{meta['name']}-"[:58] + str(number)
            body = {"metadata": {"name": pod, "labels": meta["labels"]}}
            condition = {"type": "Ready", "status": "True"}
            if number >= ready:
                stamp = self.now.isoformat().replace("+00:00", "Z")
                condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
                condition |= {"message": "0/1 nodes: Insufficient nvidia.com/gpu", "lastTransitionTime": stamp}
            known = self.cache.get(kinds.POD, "rag", pod)
            phase = "Running" if number < ready else "Pending"
            if known is None or known["status"]["phase"] != phase:
                self.put(kinds.POD, {**body, "status": {"phase": phase, "podIP": pod, "conditions": [condition]}})
            found.append(pod)
        return found

    def gone(self, pod: str) -> None:
        self.cache.forget(Key(kinds.POD, "rag", pod))


CPU = {"name": "cpu", "minReplicas": 1, "maxReplicas": 6}


def carries(memory: float = 100.0, queue: float = 0.0, requests: int = 0, slow: int = 0) -> list[Sample]:
    """Return what a pod with a limit of 1000 bytes says; `slow` of its requests took two seconds."""
    name = "reembed_embedder_request_seconds_bucket"
    return [
        (name, {"priority": "live", "le": "0.1"}, float(requests - slow)),
        (name, {"priority": "live", "le": "2.0"}, float(requests)),
        (name, {"priority": "live", "le": "+Inf"}, float(requests)),
        ("reembed_embedder_queue_tokens", {}, queue),
        ("reembed_memory_used_bytes", {}, memory),
        ("reembed_memory_limit_bytes", {}, 1000.0),
        ("process_start_time_seconds", {}, 1.0),
    ]
