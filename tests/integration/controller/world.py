"""Stands in for what a bare API server lacks: Deployments that come up, and pods that answer.

Store worker and gateways do at once what the index's status asks of them, and report it. Everything the operator reads
or writes goes through the real API server; only the pods' HTTP is answered here.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from typing import Any

from reembed.api import parse_pool
from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.controller import classes
from reembed.controller.scrape import Sample
from reembed.core import names
from reembed.core.fingerprint import fingerprint
from reembed.core.measures import ARM_REQUESTS, ARM_SECONDS

_DOCUMENTS = 1000
# A sketch of one vector: 64 ones.
PROBES = base64.b64encode(b"\0\x3c" * 64).decode()


class World:
    """The pods of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, index: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._index = index
        self._answers = 0
        self.failing: set[str] = set()  # pools whose queries fail
        self.starting: set[str] = set()  # Deployments whose pods do not come up
        self.ip = "10.0.0.1"  # of every pod
        self.reached = ""  # the farthest that the store gets with a collection; empty is all the way
        self.memory = 100.0  # bytes that every pod uses of 400
        self.probes = PROBES  # of every embedder
        self.rejected = 0
        self.asked: tuple[float | None, str | None] = (None, None)  # for how much pods ask, and what they yield to
        self.pointer: dict[str, Any] | None = None  # of the store by somebody's hand; the plan's is followed above it
        self.withdraws = True  # whether the store withdraws and drops what it is told to
        self.silent = False  # whether gateways say nothing of themselves
        self.verdict: str | None = "Better"  # of an evaluation; None if it never ends
        self._remembered: dict[str, Any] = {}
        self.jobs: dict[str, str] = {}  # every Job ever made, and the collection it filled
        self.protected: set[str] = set()  # pods that were told to protect themselves
        self.weights: list[int] = []  # every weight that gateways were told, in order
        self.gateway: Callable[[dict[str, Any]], dict[str, Any]] | None = None  # what gateways make of a routing

    async def run(self) -> None:
        """Bring up what the operator makes, until cancelled."""
        while True:
            for deployment in await self._cluster.list(kinds.DEPLOYMENT, self._namespace):
                await self._bring_up(deployment)
            for job in await self._cluster.list(kinds.JOB, self._namespace):
                self.jobs[job["metadata"]["name"]] = _collection_of(job)
            await asyncio.sleep(0.1)

    def remember(self, status: dict[str, Any]) -> None:
        """Have gateways and store keep what they know when the index's status is emptied, as real ones do."""
        self._remembered = status

    async def json(self, addresses: Mapping[str, str], path: str) -> dict[str, Any]:
        status = await self._status()
        if path == "/status":
            return dict.fromkeys(addresses, self._store(status))
        if path == classes.PATH:
            return {name: await self._class(name) for name in addresses}
        return {} if self.silent else dict.fromkeys(addresses, self._gateway(status))

    async def _class(self, pod: str) -> dict[str, Any]:
        """Return what a pod says of its class."""
        found = await self._cluster.get(kinds.POD, self._namespace, pod) or {"metadata": {"labels": {}}}
        name = found["metadata"]["labels"].get(names.LABEL_POOL, "")
        pool = await self._cluster.get(kinds.POOL, self._namespace, name)
        return {"fingerprint": fingerprint_of(pool) if pool is not None else "", "probes": self.probes}

    async def metrics(self, addresses: Mapping[str, str]) -> dict[str, list[Sample]]:
        self._answers += 100
        arms = (await self._status()).get("routing", {})
        samples = [("reembed_memory_used_bytes", {}, self.memory), ("reembed_memory_limit_bytes", {}, 400.0)]
        for arm in (arms.get("serving"), arms.get("candidate")):
            if arm:
                outcome = "error" if arm["pool"] in self.failing and arms["weight"] else "ok"
                samples += _arm_samples(arm["collection"], outcome, self._answers)
        return dict.fromkeys(addresses, samples)  # type: ignore[arg-type]

    async def put(self, addresses: Mapping[str, str], path: str, body: Mapping[str, Any]) -> tuple[str, ...]:
        self.protected.update(addresses)
        return tuple(addresses)

    async def _status(self) -> dict[str, Any]:
        index = await self._cluster.get(kinds.INDEX, self._namespace, self._index)
        status: dict[str, Any] = (index or {}).get("status") or {}
        return status if "routing" in status else self._remembered

    def _gateway(self, status: dict[str, Any]) -> dict[str, Any]:
        routing = status.get("routing") or {}
        if self.gateway is not None:
            routing = self.gateway(routing)
        weight = routing.get("weight", 0)
        if not self.weights or self.weights[-1] != weight:
            self.weights.append(weight)
        return {
            "epoch": routing.get("epoch", 0),
            "weight": weight,
            "serving": routing.get("serving"),
            "candidate": routing.get("candidate"),
        }

    def _store(self, status: dict[str, Any]) -> dict[str, Any]:
        plan = status.get("plan") or {}
        entries = [one for one in plan.get("collections") or [] if one["desired"] != "Dropped" or not self.withdraws]
        return {
            "problem": None,
            "pointer": self._pointer(plan.get("pointer")),
            "documents": _DOCUMENTS,
            "collections": [self._collection(one) for one in entries],
            "evaluation": self._evaluation(plan.get("evaluation")),
            "retrieval": {"count": 500, "total": 0.0, "squares": 5.0},
        }

    def _pointer(self, planned: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return what the store points to: as in SQL, only a higher generation moves it."""
        by_hand = self.pointer
        return by_hand if by_hand and planned and planned["generation"] <= by_hand["generation"] else planned

    def _evaluation(self, plan: dict[str, Any] | None) -> dict[str, Any] | None:
        if plan is None or self.verdict is None:
            return None
        return {
            "id": plan["id"],
            "verdict": self.verdict,
            "queries": 500,
            "k": 10,
            "mrrCandidate": 0.5,
            "message": f"the candidate is {self.verdict}",
        }

    def _collection(self, entry: dict[str, Any]) -> dict[str, Any]:
        states = {
            "Present": "Filled",
            "Indexed": self.reached or "Indexed",
            "Withdrawn": "Withdrawn" if self.withdraws else "Indexed",
        }
        states["Dropped"] = states["Withdrawn"]
        filled = entry["name"] in self.jobs.values() and self.reached != "Filling"
        return {
            "name": entry["name"],
            "fingerprint": entry["fingerprint"],
            "dimensions": entry["dimensions"],
            "state": states[entry["desired"]] if filled or entry["desired"] == "Withdrawn" else "Filling",
            "shards": entry["shards"],
            "shardsDone": entry["shards"] if filled else 0,
            "written": _DOCUMENTS if filled else 0,
            "rejected": self.rejected,
            "total": _DOCUMENTS,
            "documentsPerSecond": 50.0,
            "bottleneck": "embed",
            "problem": None,
            "requests": self.asked[0],
            "yieldsTo": self.asked[1],
        }

    async def _bring_up(self, deployment: dict[str, Any]) -> None:
        meta, wanted = deployment["metadata"], deployment["spec"]["replicas"]
        if deployment.get("status", {}).get("readyReplicas", 0) == wanted or meta["name"] in self.starting:
            return
        for number in range(wanted):
            await self._pod(f"{meta['name']}-{number}"[-60:].strip("-"), meta["labels"])
        status = {"replicas": wanted, "readyReplicas": wanted, "updatedReplicas": wanted, "availableReplicas": wanted}
        body = {"metadata": {"namespace": meta["namespace"], "name": meta["name"]}, "status": status}
        await self._cluster.apply(kinds.DEPLOYMENT, body, manager="kubelet", subresource="status")

    async def _pod(self, name: str, labels: dict[str, str]) -> None:
        meta = {"namespace": self._namespace, "name": name}
        containers = [{"name": "main", "image": "none"}]
        spec = {"metadata": {**meta, "labels": labels}, "spec": {"containers": containers}}
        await self._cluster.apply(kinds.POD, spec, manager="kubelet")
        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "podIP": self.ip, "podIPs": [{"ip": self.ip}], "conditions": [ready]}
        await self._cluster.apply(
            kinds.POD, {"metadata": meta, "status": status}, manager="kubelet", subresource="status"
        )


def fingerprint_of(pool: dict[str, Any]) -> str:
    return fingerprint(parse_pool({**pool, "metadata": {"uid": "", **pool["metadata"]}})[1].model)


def _collection_of(job: dict[str, Any]) -> str:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return next(str(one["value"]) for one in container["env"] if one["name"] == "REEMBED_COLLECTION")


def _arm_samples(collection: str, outcome: str, answers: int) -> list[Sample]:
    labels = {"collection": collection, "probe": "false"}
    counts = [(f"{ARM_REQUESTS}_total", {**labels, "outcome": outcome}, float(answers))]
    buckets = [(f"{ARM_SECONDS}_bucket", {**labels, "le": bound}, float(answers)) for bound in ("0.05", "+Inf")]
    probes = [(f"{ARM_REQUESTS}_total", {**labels, "probe": "true", "outcome": "ok"}, float(answers))]
    return [*counts, *buckets, *probes]


def objects(namespace: str) -> dict[str, Any]:
    """Return two pools, an index, a first fill and a migration, by kind and name."""
    migration = {
        "indexRef": {"name": "docs"},
        "canary": {"steps": [{"weight": weight, "hold": "1s"} for weight in (10, 50, 100)]},
        "rollback": {"triggers": {"errorRate": {"for": "2s"}}},
        "retention": {"window": "1s"},
    }
    found = {
        (kinds.POOL, "old"): _pool("a"),
        (kinds.POOL, "new"): _pool("b"),
        (kinds.INDEX, "docs"): {
            "store": {
                "ownerSecretRef": {"name": "store", "key": "owner"},
                "gatewaySecretRef": {"name": "store", "key": "gateway"},
            },
            "source": {"table": "docs", "idColumn": "id", "textColumn": "body"},
        },
        (kinds.MIGRATION, "fill"): {**migration, "target": {"poolRef": {"name": "old"}}},
        (kinds.MIGRATION, "move"): {
            **migration,
            "target": {"poolRef": {"name": "new"}},
            "from": {"poolRef": {"name": "old"}},
        },
    }
    return {key: {"metadata": {"namespace": namespace, "name": key[1]}, "spec": spec} for key, spec in found.items()}


def _pool(digit: str) -> dict[str, Any]:
    model = {
        "uri": "http://models/m.gguf",
        "sha256": digit * 64,
        "pooling": "Mean",
        "dimensions": 384,
        "maxTokens": 256,
    }
    return {"model": model, "variants": [{"name": "cpu"}]}


PART_OF = {names.LABEL_PART_OF: names.PART_OF}
