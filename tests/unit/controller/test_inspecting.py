"""The Job of an inspection is made once, and what is known is told in the index's status until something is newer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

from reembed.api.inspections import render_asked, render_inspection
from reembed.cluster import kinds
from reembed.cluster.client import Refused
from reembed.cluster.kinds import Kind
from reembed.controller.cache import Cache, Key, Object
from reembed.controller.inspecting import Inspected, Inspections
from reembed.controller.observe import Observer
from reembed.controller.settings import Images
from reembed.controller.writer import Writer
from reembed.core.migration import Migration
from reembed.core.model import AskedInspection, Finding, InspectionReport, Reproduced, StoreReport
from tests.builders import NOON, OLD, collection, index, migration, store
from tests.unit.controller.fakes import FakeCluster

IMAGES = Images("embedder:1", "gateway:1", "backfill:1", "IfNotPresent")
STORE = store(collection(), inspections=())
FINDING = Finding("VectorsZero", 2, 0.002, ("3",), "2 vectors are zero")
SOUND = InspectionReport("i", NOON, OLD.collection, OLD.fingerprint, 9, 9, (), Reproduced(9, 1.0, 1.0, 1.0))


class Creating(FakeCluster):
    """An API server that counts what is made on it."""

    made = 0
    refuses = False

    async def create(self, kind: Kind, namespace: str, obj: Object, *, manager: str) -> Object:
        if self.refuses:
            raise Refused(403, "exceeded quota")
        self.made += 1
        return self.write(kind, obj)

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        self.gone(kind, namespace, name)


class World:
    """One index, and what its store says."""

    def __init__(self, holder: Migration | None = None) -> None:
        self.cluster = Creating()
        self.cache = Cache(lambda *_: None)
        observer = cast("Observer", SimpleNamespace(migration=lambda key: holder))
        self.inspections = Inspections(self.cache, observer, Writer(self.cluster, self.cache), IMAGES)
        self.raw: Object = {"metadata": {"uid": "uid-docs", "annotations": {}}, "status": {}}

    def ask(self, nonce: str, collection: str | None = None) -> None:
        key, value = render_asked(AskedInspection("uid-docs", nonce, collection))
        self.raw["metadata"]["annotations"][key] = value

    async def look(self, store: StoreReport | None = STORE) -> Inspected:
        """Make a pass, and write what it tells into the status as the index's pass does."""
        found = await self.inspections.keep(self.raw, index(), store)
        if found.status:
            self.raw["status"]["inspection"] = found.status
        status = "Unknown" if found.condition.status is None else str(found.condition.status)
        told = {"type": "Inspected", "status": status, "reason": found.condition.reason, "message": ""}
        self.raw["status"]["conditions"] = [told]
        return found

    def jobs(self) -> list[Object]:
        return list(self.cache.all(kinds.JOB, "rag", {}))


async def test_a_command_makes_one_job_and_is_done_with_its_outcome() -> None:
    world = World()
    assert (await world.look()).status == {}
    world.ask("n-1")
    for _ in range(3):
        found = await world.look()
    (job,) = world.jobs()
    order = _environment(job)["REEMBED_INSPECTION"]
    assert (world.cluster.made, found.waits, found.condition.reason) == (1, True, "Inspecting")
    assert found.status == {"asked": {"nonce": "n-1", "outcome": "Accepted"}}
    done = await world.look(replace(STORE, inspections=(replace(SOUND, id=order),)))
    assert (done.status["id"], done.status["asked"], done.waits) == (order, {"nonce": "n-1", "outcome": "Done"}, False)
    assert (done.condition.status, done.condition.reason) == (True, "NothingFound")


async def test_a_command_that_is_refused_makes_nothing_and_is_told_once() -> None:
    world = World()
    world.ask("n-1", "c_gone")
    told = [(await world.look()).status["asked"] for _ in range(2)]
    assert told[0] == told[1]
    assert (told[0]["outcome"], world.jobs()) == ("Refused", [])


async def test_a_migration_that_begins_makes_one() -> None:
    world = World(migration())
    assert (await world.look()).waits
    (job,) = world.jobs()
    assert _environment(job)["REEMBED_COLLECTION"] == OLD.collection


async def test_each_outcome_is_told_by_one_event() -> None:
    world = World()
    found = replace(STORE, inspections=(replace(SOUND, findings=(FINDING,)),))
    notes = [(await world.look(found)).note for _ in range(2)]
    assert notes[1] is None
    assert notes[0] is not None
    assert (notes[0].reason, notes[0].warning) == ("VectorsZero", True)
    newer = (replace(SOUND, id="j", at=NOON + timedelta(hours=1)), *(found.inspections or ()))
    note = (await world.look(replace(STORE, inspections=newer))).note
    assert note is not None
    assert (note.reason, note.warning) == ("NothingFound", False)


async def test_while_the_store_is_silent_the_last_outcome_stands() -> None:
    world = World()
    before = await world.look(replace(STORE, inspections=(replace(SOUND, findings=(FINDING,)),)))
    silent = await world.look(None)
    assert silent.status == before.status == render_inspection(replace(SOUND, findings=(FINDING,)))
    assert (silent.condition.status, silent.condition.reason, silent.note) == (False, "VectorsZero", None)


async def test_a_job_that_gave_up_is_told_and_not_made_again_while_it_is_there() -> None:
    world = World(migration())
    await world.look()
    (job,) = world.jobs()
    failed = {"type": "Failed", "status": "True", "message": "BackoffLimitExceeded"}
    failing = world.cluster.write(kinds.JOB, {**job, "status": {"conditions": [failed]}})
    world.cache.put(kinds.JOB, failing)
    found = await world.look()
    assert (found.condition.status, found.condition.reason) == (None, "InspectionFailed")
    assert "BackoffLimitExceeded" in found.condition.message
    assert world.cluster.made == 1
    world.cluster.gone(kinds.JOB, "rag", job["metadata"]["name"])
    world.cache.forget(Key(kinds.JOB, "rag", job["metadata"]["name"]))
    await world.look()
    assert world.cluster.made == 2


async def test_a_job_that_is_refused_is_told_and_asked_for_again() -> None:
    world = World(migration())
    world.cluster.refuses = True
    found = await world.look()
    assert (found.condition.reason, found.waits) == ("InspectionFailed", True)
    assert "exceeded quota" in found.condition.message
    world.cluster.refuses = False
    assert (await world.look()).condition.reason == "Inspecting"


async def test_an_index_that_goes_takes_its_jobs_along() -> None:
    world = World(migration())
    await world.look()
    await world.inspections.end(index())
    assert [key for key in world.cluster.objects if key.kind == kinds.JOB] == []


def _environment(job: Object) -> dict[str, Any]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value") for one in container["env"]}
