"""What is known of an index: who claimed it, where its pointer stands, its epochs of capture, its evaluations.

Each is a row that is added once under a number above the last: who comes second finds the row there. So a claim, a
move of the pointer and an evaluation have one author, without a lock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from reembed.core.model import PointerPlan
from reembed.stores.chroma import places
from reembed.stores.chroma.client import Chroma, Missing, Row


class Notes:
    """The notes of one index."""

    def __init__(self, chroma: Chroma, index_key: str) -> None:
        self._chroma = chroma
        self._name = places.notes(index_key)
        self._key = index_key
        self._id: str | None = None

    async def make(self) -> None:
        found = await self._chroma.create(self._name, {places.KIND: "notes", places.KEY: self._key})
        self._id = found.id

    async def claimed_by(self) -> tuple[str, str] | None:
        """Return the UID that holds the index, and its row; None if nobody does."""
        rows = sorted(await self._of("claim"), key=lambda row: row.id)
        return (str(rows[-1].values["uid"]), rows[-1].id) if rows else None

    async def claim(self, uid: str) -> None:
        if await self.claimed_by() is None:
            await self._add("claim/1", {"what": "claim", "uid": uid})

    async def epoch(self) -> int:
        return max([int(row.values["n"]) for row in await self._of("epoch")], default=0)

    async def documents(self) -> str | None:
        """Return which collection of documents the epoch of today is about."""
        rows = await self._of("epoch")
        return str(max(rows, key=lambda row: int(row.values["n"])).values["documents"]) if rows else None

    async def begin_epoch(self, documents: str) -> None:
        n = await self.epoch() + 1
        await self._add(f"epoch/{n:010d}", {"what": "epoch", "n": n, "documents": documents})

    async def pointer(self) -> PointerPlan | None:
        plans = [
            PointerPlan(str(row.values["collection"]), str(row.values["fingerprint"]), int(row.values["n"]))
            for row in await self._of("pointer")
        ]
        return max(plans, key=lambda plan: plan.generation, default=None)

    async def point(self, plan: PointerPlan) -> None:
        now = await self.pointer()
        if now is None or now.generation < plan.generation:
            values = {
                "what": "pointer",
                "n": plan.generation,
                "collection": plan.collection,
                "fingerprint": plan.fingerprint,
            }
            await self._add(f"pointer/{plan.generation:019d}", values)

    async def evaluation(self, name: str) -> Mapping[str, Any] | None:
        rows = await self._get(ids=[f"evaluation/{name}"], include=("metadatas", "documents"))
        return json.loads(rows[0].text or "{}") if rows else None

    async def record(self, name: str, outcome: Mapping[str, Any]) -> None:
        await self._add(f"evaluation/{name}", {"what": "evaluation"}, json.dumps(outcome))

    async def forget(self) -> None:
        """Take everything back; the claim goes last, since it says whose the rest is."""
        for what in ("pointer", "evaluation", "epoch", "claim"):
            rows = await self._of(what)
            await self._chroma.delete(await self._place(), [row.id for row in rows])

    async def _of(self, what: str) -> list[Row]:
        return await self._get(where={"what": what})

    async def _get(self, **asked: Any) -> list[Row]:
        try:
            return await self._chroma.get(await self._place(), **asked)
        except Missing:
            self._id = None
            return []

    async def _add(self, name: str, values: Mapping[str, Any], text: str | None = None) -> None:
        await self._chroma.add(await self._place(), [Row(name, values, text, places.point(name))])

    async def _place(self) -> str:
        if self._id is None:
            found = await self._chroma.find(self._name)
            if found is None:
                raise Missing(f"collection {self._name} is not there yet")
            self._id = found.id
        return self._id
