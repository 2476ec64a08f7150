"""The vector store of one index and its worker: reads the plan with a lag, makes it true, and reports.

Collections and pointer survive the worker. Each piece of work takes its time, as an index build does; the pointer moves
by compare-and-set on its generation, and what it names is not dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reembed.cluster import kinds
from tests.sim.api_server import ApiServer, Change, Object
from tests.sim.chances import Chances
from tests.sim.kubelet import Kubelet
from tests.sim.labelled import Labelled

INDEX = "docs"
_DOCUMENTS = 1000
_READ_EVERY = 10.0


@dataclass
class Collection:
    """One table of vectors."""

    name: str
    fingerprint: str
    dimensions: int
    shards: int
    state: str = "Filling"
    done: int = 0
    rejected: int = 0

    def report(self) -> Object:
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "dimensions": self.dimensions,
            "state": self.state,
            "shards": self.shards,
            "shardsDone": self.done,
            "written": _DOCUMENTS * self.done // self.shards,
            "rejected": self.rejected,
            "total": _DOCUMENTS,
            "documentsPerSecond": 50.0,
            "bottleneck": "embed",
            "problem": None,
            "owed": 0,
            "lagSeconds": 0.5,
            "verified": True,
        }


@dataclass
class Store:
    """What is in the database."""

    collections: dict[str, Collection] = field(default_factory=dict)
    pointer: Object | None = None
    evaluations: dict[str, str] = field(default_factory=dict)  # verdicts by id
    inspections: dict[str, Object] = field(default_factory=dict)  # outcomes by id, the newest last


class Worker:
    """The store worker of the index."""

    def __init__(self, server: ApiServer, kubelet: Kubelet, chances: Chances) -> None:
        self._server = server
        self._kubelet = kubelet
        self._chances = chances
        self.store = Store()
        self.silent = False  # it does not answer, and works on
        self.problem: Object | None = None  # the database is not as it should be: nothing is done
        self.stops_at = ""  # the farthest that it gets with a collection; empty is all the way
        self.verdict = "Better"
        self.rejects = 0  # documents of each collection
        self.reproduces = True  # pools make the vectors that are stored
        self.inspects = True  # inspections come to an end
        self.labelled = Labelled()
        self.happened: Callable[[str, str], None] = lambda what, collection: None
        self._uid = ""  # of the index
        self._plan: Object = {}
        self._jobs: dict[str, str] = {}
        server.listeners.append(self._changed)

    def begin(self) -> None:
        self._read()

    @property
    def runs(self) -> bool:
        return any(pod.ready for pod in self._kubelet.of("worker"))

    def answer(self) -> Object | None:
        """Return the answer at /status."""
        if self.silent or not self.runs:
            return None
        evaluation = self._plan.get("evaluation")
        found = self.store.evaluations.get(evaluation["id"]) if evaluation is not None else None
        return {
            "problem": self.problem,
            "pointer": self.store.pointer,
            "documents": _DOCUMENTS,
            "collections": [one.report() for one in self.store.collections.values()],
            "dropped": [one["name"] for one in self._plan.get("collections") or () if self._is_dropped(one)],
            "evaluation": _evaluation(evaluation["id"], found) if evaluation is not None and found else None,
            "retrieval": self.labelled.report(evaluation["id"]) if evaluation is not None else None,
            "inspections": [one for one in reversed(self.store.inspections.values()) if self._is_there(one)],
        }

    def _is_there(self, inspection: Object) -> bool:
        """Return whether the collection that was inspected is: what was found in it goes with it."""
        return inspection["collection"] in self.store.collections

    def inspect(self, job: Object) -> bool | None:
        """Look at a collection for a Job's pod; return whether it is done."""
        (container,) = job["spec"]["template"]["spec"]["containers"]
        given = {one["name"]: one.get("value", "") for one in container["env"]}
        found = self.store.collections.get(given["REEMBED_COLLECTION"])
        if found is None:
            return None
        if self.problem is not None or not self.inspects:
            return False
        order = given["REEMBED_INSPECTION"]
        if order not in self.store.inspections:
            self.store.inspections[order] = _inspection(order, found, self._server.stamp(), self.reproduces)
            self.happened("inspected", found.name)
        return True

    def fill(self, job: Object) -> bool | None:
        """Fill one shard for a Job's pod; return whether all are filled."""
        (container,) = job["spec"]["template"]["spec"]["containers"]
        name = next((one["value"] for one in container["env"] if one["name"] == "REEMBED_COLLECTION"), None)
        if name is None:
            return True  # a hook's
        found = self.store.collections.get(name)
        if found is None or found.state != "Filling" or self.problem is not None or self.stops_at == "Filling":
            return False
        found.done = min(found.done + 1, found.shards)
        found.rejected = self.rejects
        if found.done == found.shards:
            found.state = "Filled"
            self._look()
        return found.done == found.shards

    def _changed(self, change: Change) -> None:
        if change.kind == kinds.INDEX and change.name == INDEX:
            asyncio.get_running_loop().call_later(self._chance.uniform(0.02, 0.5), self._look)

    def _read(self) -> None:
        self._look()
        asyncio.get_running_loop().call_later(_READ_EVERY, self._read)

    def _look(self) -> None:
        """Make one pass."""
        if not self.runs or self.problem is not None:
            return
        index = self._server.get(kinds.INDEX, INDEX)
        if index is None:
            return
        if index["metadata"].get("deletionTimestamp"):
            self._release()
            return
        self._claim(index["metadata"]["uid"])
        self._plan = index.get("status", {}).get("plan") or {}
        self._move(self._plan.get("pointer"))
        for plan in self._plan.get("collections") or ():
            work = self._due(plan)
            if work and plan["name"] not in self._jobs:
                self._jobs[plan["name"]] = work
                asyncio.get_running_loop().call_later(
                    self._chance.uniform(0.1, 1.5), self._do, plan["name"], work, plan
                )
        evaluation = self._plan.get("evaluation")
        self.labelled.watch(evaluation["id"] if evaluation is not None and evaluation.get("live") else "")
        if evaluation is not None and evaluation["id"] not in self.store.evaluations and self.verdict:
            self.store.evaluations[evaluation["id"]] = self.verdict

    def _claim(self, uid: str) -> None:
        """Take the index's name in the store: another object's collections are not this one's."""
        if self._uid != uid:
            if self._uid:
                self.store.collections.clear()
            self._uid = uid

    def _release(self) -> None:
        """Give the index's name in the store free; its collections stay, and answer no more."""
        self._plan, self.store.pointer = {}, None
        self.store.evaluations.clear()
        for one in self.store.collections.values():
            one.state = "Withdrawn"

    def _move(self, plan: Object | None) -> None:
        now, to = self.store.pointer, self.store.collections.get(plan["collection"]) if plan is not None else None
        if plan is None or to is None or to.state != "Indexed" or (now and now["generation"] >= plan["generation"]):
            return
        self.store.pointer = plan
        self.happened("pointer moved", plan["collection"])

    def _is_dropped(self, plan: Object) -> bool:
        name = plan["name"]
        return plan["desired"] == "Dropped" and name not in self.store.collections and name not in self._jobs

    def _due(self, plan: Object) -> str:
        held, desired = self.store.collections.get(plan["name"]), plan["desired"]
        if held is None:
            return "create" if desired in {"Present", "Indexed"} else ""
        if desired == "Indexed":
            return "index" if held.state in {"Filled", "Withdrawn"} and self.stops_at != "Filled" else ""
        if desired == "Withdrawn":
            return "withdraw" if held.state != "Withdrawn" else ""
        return "drop" if desired == "Dropped" else ""

    def _do(self, name: str, work: str, plan: Object) -> None:
        """Finish a piece of work, unless the plan or the database changed its mind meanwhile."""
        self._jobs.pop(name, None)
        if not self.runs or self.problem is not None:
            return
        wanted = next((one for one in self._plan.get("collections") or () if one["name"] == name), None)
        if wanted is None or self._due(wanted) != work:
            self._look()
            return
        found = self.store.collections.get(name)
        if work == "create":
            shape = (plan["fingerprint"], plan["dimensions"], plan["shards"])
            self.store.collections[name] = Collection(name, *shape)
        elif found is not None and work == "drop":
            if self.store.pointer is not None and self.store.pointer["collection"] == name:
                return
            del self.store.collections[name]
        elif found is not None:
            found.state = "Indexed" if work == "index" else "Withdrawn"
        self.happened(work, name)
        self._look()

    @property
    def _chance(self) -> Any:
        return self._chances.of("worker")


def _inspection(order: str, of: Collection, at: str, reproduces: bool) -> Object:
    cosine = 0.999 if reproduces else 0.5
    return {
        "id": order,
        "at": at,
        "collection": of.name,
        "fingerprint": of.fingerprint,
        "documents": _DOCUMENTS,
        "inspected": _DOCUMENTS,
        "findings": [],
        "reproduced": {"sample": 200, "medianCosine": cosine, "p5Cosine": cosine, "share": 1.0 if reproduces else 0.0},
    }


def _evaluation(name: str, verdict: str) -> Object:
    return {
        "id": name,
        "verdict": verdict,
        "queries": 500,
        "k": 10,
        "mrrCandidate": 0.5,
        "message": f"the candidate is {verdict}",
    }
