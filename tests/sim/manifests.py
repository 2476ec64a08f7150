"""What a user applies: two pools, an index, and a migration whose times are short."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reembed.cluster import kinds
from reembed.cluster.kinds import Kind
from reembed.core.fingerprint import fingerprint
from reembed.core.model import Model, Pooling
from tests.sim.api_server import NAMESPACE, Object

Manifests = dict[tuple[Kind, str], Object]
OLD_COLLECTION = "c_old"
_FIRST = 1


def manifests(replicas: Mapping[str, int], **migration: Any) -> Manifests:
    """Return what is applied; `replicas` are those of the pools, `migration` goes to the spec of the migration."""
    found = {
        (kinds.POOL, "old"): _pool("a", replicas.get("old", 1)),
        (kinds.POOL, "new"): _pool("b", replicas.get("new", 1)),
        (kinds.INDEX, "docs"): {
            "store": {
                "ownerSecretRef": {"name": "store", "key": "owner"},
                "gatewaySecretRef": {"name": "store", "key": "gateway"},
            },
            "source": {"table": "docs", "idColumn": "id", "textColumn": "body"},
            "gateway": {"replicas": replicas.get("gateway", 2)},
        },
        (kinds.MIGRATION, "move"): moves("new", **migration),
    }
    return {key: named(key[1], spec) for key, spec in found.items()}


def moves(target: str, **spec: Any) -> Object:
    """Return the spec of a migration to `target`."""
    return {
        "indexRef": {"name": "docs"},
        "target": {"poolRef": {"name": target}},
        "backfill": {"shards": 4},
        "canary": {"steps": [{"weight": weight, "hold": "3s"} for weight in (10, 50, 100)]},
        "rollback": {"triggers": {name: {"for": "6s"} for name in ("memory", "errorRate", "latency", "pointer")}},
        "retention": {"window": "5s"},
        **spec,
    }


def named(name: str, spec: Object) -> Object:
    return {"metadata": {"namespace": NAMESPACE, "name": name}, "spec": spec}


def served() -> tuple[Object, Object]:
    """Return the routing and the plan of an index that pool `old` has served for long."""
    print_ = fingerprint(_model("a"))
    arm = {"pool": "old", "collection": OLD_COLLECTION, "fingerprint": print_}
    plan = {"name": OLD_COLLECTION, "pool": "old", "fingerprint": print_, "dimensions": 384, "shards": 4}
    pointer = {"collection": OLD_COLLECTION, "fingerprint": print_, "generation": _FIRST}
    routing = {"epoch": _FIRST, "weight": 0, "serving": arm}
    return routing, {"collections": [{**plan, "desired": "Indexed"}], "pointer": pointer}


def _pool(digit: str, replicas: int) -> Object:
    model = _model(digit)
    written = {
        "uri": model.uri,
        "sha256": model.sha256,
        "pooling": model.pooling.value,
        "dimensions": model.dimensions,
        "maxTokens": model.max_tokens,
    }
    return {"model": written, "variants": [{"name": "cpu", "minReplicas": replicas}]}


def another(pool: Object) -> Object:
    """Return the spec of a pool with the next model."""
    digit = pool["model"]["sha256"][0]
    return {**pool, "model": {**pool["model"], "sha256": chr(ord(digit) + 1) * 64}}


def _model(digit: str) -> Model:
    return Model("http://models/m.gguf", digit * 64, Pooling.MEAN, 384, 256)
