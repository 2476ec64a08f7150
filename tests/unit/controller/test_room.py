"""An index's status says what takes room, and is written again only when that has changed."""

from __future__ import annotations

from typing import Any

import jsonschema

from reembed.controller import room
from reembed.core.model import LeftReport, Problem, StoreReport
from tests import builders as b
from tests.unit.api.schemas import closed, schema_of

LEFT = (LeftReport("c_left", "Withdrawn", 70),)
TOLD = [
    {"name": b.OLD.collection, "state": "Indexed"},
    {"name": b.NEW.collection, "state": "Indexed", "bytes": 1000, "recall": 0.9876},
    {"name": "c_left", "state": "Withdrawn", "bytes": 70, "orphaned": True},
]


def told(store: StoreReport | None, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return room.told(b.index(), store, {"status": {"collections": before}})


def test_what_takes_room_is_told_as_the_status_may_hold_it() -> None:
    found = told(b.store(b.collection(size=1000, recall=0.98761), left=LEFT), [])
    schema = closed(schema_of("embeddingindexes")["properties"]["status"]["properties"]["collections"])
    assert (found, list(jsonschema.Draft7Validator(schema).iter_errors(found))) == (TOLD, [])


def test_a_few_pages_more_are_not_told() -> None:
    assert told(b.store(b.collection(size=1010, recall=0.98761), left=LEFT), TOLD) == TOLD


def test_a_collection_that_is_gone_is_told_no_more() -> None:
    assert told(b.store(b.collection(size=1000, recall=0.98761), left=()), TOLD) == TOLD[:2]


def test_a_store_that_says_nothing_takes_nothing_back() -> None:
    troubled = StoreReport(Problem("StoreUnreachable", "why"), None, None)
    assert (told(None, TOLD), told(troubled, TOLD)) == (TOLD, TOLD)
