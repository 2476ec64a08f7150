"""Which CRDs are installed is read of themselves; who may not read them holds nothing up."""

from __future__ import annotations

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Refused
from reembed.cluster.kinds import Kind
from reembed.controller.schema import Schema
from tests.unit.controller.fakes import FakeCluster, Object

PLURALS = [kind.plural for kind in (kinds.POOL, kinds.INDEX, kinds.MIGRATION)]


class Forbidden(FakeCluster):
    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        raise Refused(403, "customresourcedefinitions is forbidden")


def installed(*numbers: str | None) -> FakeCluster:
    cluster = FakeCluster()
    for plural, number in zip(PLURALS, numbers, strict=True):
        annotations = {"reembed.dev/schema": number} if number is not None else {}
        meta = {"namespace": "", "name": f"{plural}.reembed.dev", "annotations": annotations}
        cluster.write(kinds.CRD, {"metadata": meta})
    return cluster


@pytest.mark.parametrize(
    ("cluster", "number"),
    [
        pytest.param(installed("2", "2", "2"), 2, id="all alike"),
        pytest.param(installed("2", "1", "2"), 1, id="one was left behind"),
        pytest.param(installed("2", None, "2"), 0, id="one says nothing"),
        pytest.param(FakeCluster(), None, id="there is none to be seen"),
        pytest.param(Forbidden(), None, id="nobody may read them"),
    ],
)
async def test_the_oldest_crd_counts(cluster: FakeCluster, number: int | None) -> None:
    schema = Schema(cluster)
    await schema.look()
    assert schema.number == number
