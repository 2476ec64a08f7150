"""What an operator made of a fleet long ago, by its own manifests and under its own names.

The benchmark makes it, and is not about how long an operator needs for the first start of a thousand indexes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reembed.api import parse_index, parse_pool
from reembed.cluster import kinds
from reembed.cluster.kinds import Kind
from reembed.controller.manifests import embedder
from reembed.controller.manifests import index as index_manifests
from reembed.controller.settings import Images
from tests.bench.fleet import objects

IMAGES = Images(
    "registry.example.com/embedder:1",
    "registry.example.com/gateway:1",
    "registry.example.com/backfill:1",
    "IfNotPresent",
)

# Field manager, kind and manifest.
Child = tuple[str, Kind, dict[str, Any]]


def of_member(member: int) -> Iterator[Child]:
    """Yield what serves an index; the pool of a migration to come runs no pods yet, and is left to the operator."""
    meta, spec, _ = parse_index(_read(objects.index(member)))
    for deployment in (index_manifests.worker(meta, spec, IMAGES), index_manifests.gateway(meta, spec, IMAGES)):
        yield "reembed-indexes", kinds.DEPLOYMENT, deployment
    yield "reembed-indexes", kinds.SERVICE, index_manifests.gateway_service(meta)
    yield "reembed-indexes", kinds.DISRUPTION_BUDGET, index_manifests.disruption_budget(meta)
    meta, pool = parse_pool(_read(objects.pool(member, "a")))
    for variant in pool.variants:
        yield "reembed-pools", kinds.DEPLOYMENT, embedder.deployment(meta, pool, variant, variant.min_replicas, IMAGES)
    yield "reembed-pools", kinds.SERVICE, embedder.service(meta)


def _read(obj: objects.Object) -> objects.Object:
    """Return an object as if the API server had given it out."""
    return {**obj, "metadata": {**obj["metadata"], "uid": ""}}
