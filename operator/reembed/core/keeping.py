"""Whether a column that its application keeps fresh still is a way back: for the condition RollbackReady.

The store worker looks at a few documents whose text changed a while ago (`backfill.proving`); here it is judged what
that look says. Called by the index's pass, which tells the condition, and by a migration, which raises no traffic while
it is False: "always a way back" is what a canary promises. Going back is allowed all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from reembed.core import names
from reembed.core.conditions import Condition
from reembed.core.inspection import MIN_COSINE, NOT_REPRODUCED
from reembed.core.migration import Migration, SeenIndex
from reembed.core.model import InspectionReport, Kept, MaintainedBy, StoreReport
from reembed.core.reasons import ROLLBACK_NOT_READY

# Documents of one look, each embedded once: what a hosted model is asked for at most in a minute.
SAMPLE = 20
# The application's chance to write the vector of a text that changed.
GRACE = timedelta(minutes=1)
# Of texts that changed lately, an application that keeps its column misses a few, one that does not misses all.
_MOST_WRONG = 0.2
# Of documents by chance most are as old as the column: they tell only that it was emptied, or overwritten.
_MOST_BY_CHANCE = 0.5

_REMEDY = (
    "Queries that go back would miss or misjudge what changed, so no more go to the new side; they can be taken back"
    " all the same. Have the application write a vector with every text until the migration's retention has ended"
)


def condition(index: SeenIndex, store: StoreReport | None) -> Condition | None:
    """Return the condition RollbackReady; None while the store says nothing, so that the last one stands."""
    serving, kept_by_it = index.status.routing.serving, _of_application(index)
    if serving is None:
        return Condition("RollbackReady", None, "NothingServes", "nothing answers yet")
    if kept_by_it is None:
        return Condition("RollbackReady", True, "KeptByReembed", "what answers is kept fresh by Reembed")
    if store is None or store.problem is not None:
        return None
    return _condition(index, store, kept_by_it)


def _condition(index: SeenIndex, store: StoreReport, name: str) -> Condition:
    found = _kept(store, name)
    if found is None:
        text = "waiting for a first look whether the application keeps its column fresh"
        return Condition("RollbackReady", None, "NotLookedAt", text)
    wrong = _fault(index, store, name, found)
    if wrong:
        return Condition("RollbackReady", False, ROLLBACK_NOT_READY, wrong)
    if found.looked and not found.compared:
        text = f"{_numbers(found)}; the pool embedded none of them again in time, so whether vectors fit is not known"
        return Condition("RollbackReady", None, "NotCompared", text)
    return Condition("RollbackReady", True, "KeptByApplication", _numbers(found))


def fault(migration: Migration, index: SeenIndex, store: StoreReport) -> str:
    """Return why what serves is no way back of a migration, with what to do; empty if it is, or nobody has looked."""
    name = _of_application(index)
    found = _kept(store, name) if name is not None else None
    if name is None or found is None:
        return ""
    if NOT_REPRODUCED in migration.spec.acknowledge:
        found = replace(found, far=0)  # the pool did not make what the application writes
    return _fault(index, store, name, found)


def _of_application(index: SeenIndex) -> str | None:
    """Return the collection that answers if it is a column that its application keeps.

    It is what serves until a migration away from it is promoted, and so the way back until then.
    """
    adopted, serving = index.spec.adopted, index.status.routing.serving
    if adopted is None or adopted.maintained_by is not MaintainedBy.APPLICATION or serving is None:
        return None
    return serving.collection if serving.collection == names.adopted(index.meta.uid) else None


def _kept(store: StoreReport, name: str) -> Kept | None:
    return next((one.kept for one in store.collections if one.name == name), None)


def _fault(index: SeenIndex, store: StoreReport, name: str, kept: Kept) -> str:
    column = repr(index.spec.adopted.column) if index.spec.adopted is not None else ""
    if kept.problem:
        return f"column {column} of {index.spec.table} cannot be read ({kept.problem}). {_REMEDY}"
    if not _too_many(kept, _usual(store.inspections or (), name)):
        return ""
    examples = f", such as {', '.join(kept.examples)}" if kept.examples else ""
    found = f"the application does not keep column {column} of {index.spec.table} fresh"
    return f"{found}: {_numbers(kept)}{examples}. {_REMEDY}"


def _too_many(kept: Kept, usual: tuple[float, float]) -> bool:
    """Return whether more is wrong than a column that is kept has, and than this one had when it was inspected."""
    missing, far = usual
    most = _MOST_WRONG if kept.changed else _MOST_BY_CHANCE
    wrong = max(kept.missing - missing * kept.looked, 0.0) + max(kept.far - far * kept.compared, 0.0)
    return wrong > most * kept.looked


def _usual(reports: Sequence[InspectionReport], name: str) -> tuple[float, float]:
    """Return which shares of documents had no vector, or one that the pool does not make, at the last inspection.

    Who acknowledged that the pool did not make the vectors cannot have it proved by them that they are kept.
    """
    known = [one for one in reports if one.collection == name and one.reproduced is not None]
    newest = max(known, key=lambda one: one.at, default=None)
    if newest is None or newest.reproduced is None:
        return 0.0, 0.0
    missing = next((one.share for one in newest.findings if one.reason == "DocumentsWithoutVector"), 0.0)
    return missing, 1.0 - newest.reproduced.share


def _numbers(kept: Kept) -> str:
    minutes = round(GRACE / timedelta(minutes=1))
    which = f"whose text changed more than {minutes} min ago" if kept.changed else "by chance, since no text changed,"
    return (
        f"of {kept.looked} documents {which} {kept.missing} have no vector, and {kept.far} of {kept.compared} that were"
        f" embedded again have one that is not their text's (cosine below {MIN_COSINE})"
    )
