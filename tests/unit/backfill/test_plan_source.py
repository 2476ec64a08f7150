"""What an index says to its store worker."""

from __future__ import annotations

from typing import Any, cast

from reembed.api import render_index_status
from reembed.backfill.plan_source import PlanSource
from reembed.cluster.client import Cluster
from tests import builders as b
from tests.unit.api.complete import INDEXES


class OneIndex:
    """A cluster with one index, which only reads."""

    def __init__(self, status: dict[str, Any]) -> None:
        self._found = {**INDEXES[0], "status": status}

    async def get(self, *_: object) -> dict[str, Any]:
        return self._found


async def test_the_collections_that_gateways_know_are_told_apart() -> None:
    """An index of theirs is not built again under their queries."""
    source = PlanSource(cast("Cluster", OneIndex(render_index_status(b.index().status))), "rag", "docs")
    wanted = (await source.first()).wanted
    assert wanted.answering == {b.OLD.collection, b.NEW.collection}
    assert wanted.plan == b.index().status.plan
