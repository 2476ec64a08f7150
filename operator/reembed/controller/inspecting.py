"""Has an index's collections inspected: makes the Job that is due, and renders `status.inspection`.

Called by the index's pass, with what the store said in it. What was asked for and what was found is in the status and
in the store; nothing is remembered here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reembed.api.fields import Fields
from reembed.api.inspections import parse_asked, render_inspection
from reembed.cluster import kinds
from reembed.cluster.client import Refused
from reembed.controller import pods
from reembed.controller.cache import Cache, Key, Object
from reembed.controller.manifests import inspection as manifests
from reembed.controller.observe import Observer
from reembed.controller.settings import Images
from reembed.controller.writer import Writer, standing
from reembed.core import inspection, names
from reembed.core import inspection_orders as orders
from reembed.core.conditions import Condition
from reembed.core.inspection_orders import Answer
from reembed.core.migration import Migration, SeenIndex
from reembed.core.model import InspectionReport, JobReport, Problem, StoreReport
from reembed.core.notes import Note

_MANAGER = "reembed-indexes"


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a pass has to tell of inspections."""

    status: dict[str, Any]
    condition: Condition
    note: Note | None = None  # of an outcome that nobody was told of
    waits: bool = False


class Inspections:
    """Inspections of all indexes."""

    def __init__(self, cache: Cache, observer: Observer, writer: Writer, images: Images) -> None:
        self._cache = cache
        self._observer = observer
        self._writer = writer
        self._images = images

    async def keep(self, raw: Object, index: SeenIndex, store: StoreReport | None) -> Inspected:
        """Make the Job that is due, if any, and return what is told.

        Raises:
            ClusterError: the Job could not be made.

        """
        before: dict[str, Any] = raw.get("status", {}).get("inspection") or {}
        asked = parse_asked(raw)
        answer = orders.answer(index, store, asked, _parse_answer(before.get("asked")))
        order = orders.due(index, store, (asked, answer), self._holder(index))
        job = await self._job(index, order) if order is not None else None
        reports = store.inspections if store is not None and store.problem is None else None
        newest = reports[0] if reports else None
        known = (before.get("id"), before.get("collection"))
        told = newest is not None and known != (newest.id, newest.collection)
        return Inspected(
            status=_rendered(before, newest, answer),
            condition=self._condition(raw, index, reports, orders.condition(index, reports, order, job)),
            note=_note(newest) if newest is not None and told else None,
            waits=order is not None,
        )

    async def end(self, index: SeenIndex) -> None:
        """Delete the Jobs of an index that goes: the garbage collector would, some time later."""
        for job in list(self._cache.all(kinds.JOB, index.meta.namespace, _labels(index))):
            await self._writer.delete(kinds.JOB, index.meta.namespace, job["metadata"]["name"])

    def _holder(self, index: SeenIndex) -> Migration | None:
        holder = index.status.active_migration
        if holder is None:
            return None
        return self._observer.migration(Key(kinds.MIGRATION, index.meta.namespace, holder.name))

    async def _job(self, index: SeenIndex, order: orders.Order) -> JobReport | None:
        """Make the order's Job unless it is there, and return how it is; one that gave up is deleted by Kubernetes."""
        namespace, images = index.meta.namespace, self._images
        manifest = manifests.job(order, namespace, index.spec.owner_secret, images.backfill, images.pull_policy)
        name = manifest["metadata"]["name"]
        found = self._cache.get(kinds.JOB, namespace, name)
        if found is None:
            try:
                await self._writer.make(kinds.JOB, manifest, _MANAGER)
            except Refused as error:  # a quota or a policy: the rest of the index's status is told all the same
                problem = Problem("InspectionFailed", f"the API server refuses Job {name}: {error}")
                return JobReport(name, 0, 0, complete=False, exhausted=False, problem=problem)
            return None
        return pods.job_report(found, self._cache.all(kinds.POD, namespace, _labels(index)))

    @staticmethod
    def _condition(
        raw: Object, index: SeenIndex, reports: Sequence[InspectionReport] | None, found: Condition
    ) -> Condition:
        """Return the condition; while the store is silent the last one of the same collection stands."""
        known = raw.get("status", {}).get("inspection") or {}
        serving = index.status.routing.serving
        if reports is not None or serving is None or known.get("collection") != serving.collection:
            return found
        last = standing(raw, found.type)
        return found if last.status is None else last


def _labels(index: SeenIndex) -> dict[str, str]:
    return {names.LABEL_COMPONENT: "inspect", names.LABEL_INDEX: names.fit(index.meta.name)}


def _parse_answer(raw: Any) -> Answer | None:
    if raw is None:
        return None
    answer = Fields(raw, "status.inspection.asked")
    return Answer(answer.text("nonce"), answer.text("outcome"), answer.text("message", ""))


def _rendered(before: dict[str, Any], newest: InspectionReport | None, answer: Answer | None) -> dict[str, Any]:
    """Return `status.inspection`: the newest outcome, or the last one that was known."""
    report = render_inspection(newest) if newest is not None else {k: v for k, v in before.items() if k != "asked"}
    if answer is None:
        return report
    message = {"message": answer.message[:1024]} if answer.message else {}
    return {**report, "asked": {"nonce": answer.nonce, "outcome": answer.outcome, **message}}


def _note(report: InspectionReport) -> Note:
    found = report.findings[0].reason if report.findings else "NothingFound"
    return Note(found, f"collection {report.collection}: {inspection.told(report)}", warning=bool(report.findings))
