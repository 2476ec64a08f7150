"""What is there of an index, which its worker and the agents of a panel see alike."""

from __future__ import annotations

import json
import time
from collections.abc import Collection

from reembed.core.model import Problem
from reembed.stores.chroma import held, shards
from reembed.stores.chroma.client import Chroma
from reembed.stores.chroma.comparison import compared_in
from reembed.stores.chroma.documents import Source
from reembed.stores.chroma.held import Shape
from reembed.stores.protocol import Held, Unfit

# A shard that stored nothing for so long says nothing about the bottleneck of now.
_STAGES_SECONDS = 15.0


async def filled(chroma: Chroma, shape: Shape, epoch: int) -> Held:
    """Return what the facts of a collection say; whether it was compared is said of an epoch of capture."""
    rows = await chroma.get(shape.facts)
    names = {row.id for row in rows}
    parts = shards.farthest([row for row in rows if "shard" in row.values])
    recent = time.time() - _STAGES_SECONDS
    moving = [one for one in parts if "stats" in one and one["at"] > recent and not one["done"]]
    filling = "Indexed" if held.INDEXED in names else "Filling"
    return Held(
        name=shape.name,
        fingerprint=shape.fingerprint,
        dimensions=shape.dimensions,
        state="Withdrawn" if held.WITHDRAWN in names else filling,
        shards=shape.shards,
        shards_done=sum(bool(one["done"]) for one in parts),
        written=sum(int(one["written"]) for one in parts),
        rejected=sum(int(one["rejected"]) for one in parts),
        total=shape.total,
        stages=tuple(stages for stages in (json.loads(one["stats"]) for one in moving) if stages),
        verified=compared_in(epoch) in names,
    )


async def present(source: Source, ids: Collection[str]) -> frozenset[str]:
    return frozenset(name for name, one in (await source.newest(ids)).items() if not one.gone)


def no_table() -> Unfit:
    return Unfit(
        Problem(
            "EvaluationTableMissing",
            "Chroma has no tables, so labelled queries cannot be read from one, and the models are not compared; "
            "put them into a ConfigMap and name it in spec.evaluation.labels.configMapRef",
        )
    )
