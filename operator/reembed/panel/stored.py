"""An agent's own look at an index's store: through a role that can only read, whose connection string is in a file.

Files are named NAMESPACE.INDEX in a mounted folder. Where there is none, the store was not measured, and no raise of
that index is approved.
"""

from __future__ import annotations

import math
from collections.abc import Collection as Several
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from reembed.client import EmbedderClient, EmbedderError
from reembed.core import names
from reembed.core.model import Arm, EvaluationSpec, IndexSpec, InputType, PointerPlan
from reembed.core.quorum.evidence import Collection, Sample, Stored
from reembed.panel.labels import ReadLines
from reembed.panel.vectors import cosine
from reembed.stores.label_lines import labelled
from reembed.stores.opening import is_chroma
from reembed.stores.protocol import Labels, Sampled, StoreError

_BATCH = 16


class Reading(Protocol):
    """What a store lets an agent read."""

    async def held(self) -> tuple[Collection, ...]: ...

    async def pointer(self) -> PointerPlan | None: ...

    async def labels(self, spec: EvaluationSpec, index: IndexSpec) -> Labels: ...

    async def present(self, index: IndexSpec, ids: Several[str]) -> frozenset[str]: ...

    async def search(self, collection: str, fingerprint: str, vector: bytes, k: int) -> list[str]: ...

    async def sample(self, collection: str, count: int) -> list[Sampled]: ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class AgentStore:
    """One index's store, opened at its first use and again when its file changes."""

    def __init__(self, directory: Path, namespace: str, index: str, uid: str, lines: ReadLines) -> None:
        self._file = directory / f"{namespace}.{index}"
        self._key = names.index_key(namespace, index)
        self._uid = uid
        self._namespace = namespace
        self._lines = lines
        self._dsn = ""
        self._reader: Reading | None = None

    async def look(self) -> Stored:
        reader = await self._opened()
        collections, pointer = await reader.held(), await reader.pointer()
        return Stored(datetime.now(UTC), collections, pointer)

    async def labels(self, spec: EvaluationSpec, index: IndexSpec) -> Labels:
        """Return the labelled queries, from wherever they are, with the documents that still exist."""
        reader = await self._opened()
        if spec.config_map is None:
            return await reader.labels(spec, index)
        found = labelled(await self._lines(self._namespace, spec.config_map), spec.config_map)
        ids = {document for relevant in found.relevant.values() for document in relevant}
        return found.without(ids - await reader.present(index, ids))

    async def search(self, arm: Arm, vector: bytes, k: int) -> list[str]:
        return await (await self._opened()).search(arm.collection, arm.fingerprint, vector, k)

    async def sample(self, arm: Arm, count: int, client: EmbedderClient) -> Sample:
        """Return the cosines of stored vectors with those that a pod makes of the same texts now."""
        drawn = await (await self._opened()).sample(arm.collection, count)
        cosines: list[float] = []
        for start in range(0, len(drawn), _BATCH):
            some = drawn[start : start + _BATCH]
            cosines += await _again(client, some)
        return Sample(datetime.now(UTC), arm.collection, tuple(cosines))

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.close()
            self._reader = None

    async def _opened(self) -> Reading:
        """Return the store.

        Raises:
            StoreError: there is no connection string, or it leads to what agents cannot read.

        """
        try:
            dsn = self._file.read_text().strip()
        except OSError:
            raise StoreError(
                f"there is no connection string for this index in {self._file.name}; add the key to the agents' Secret"
            ) from None
        if self._reader is None or dsn != self._dsn:
            await self.close()
            self._reader, self._dsn = _reader(dsn, self._key, self._uid), dsn
            await self._reader.open()
        return self._reader


def _reader(dsn: str, key: str, uid: str) -> Reading:
    # Either is most of an idle agent's memory.
    if is_chroma(dsn):
        from reembed.stores.chroma.agents import AgentReader as OfChroma  # noqa: PLC0415

        return OfChroma(dsn, key, uid)
    from reembed.stores.pgvector.agents import AgentReader  # noqa: PLC0415

    return AgentReader(dsn, key, uid)


async def _again(client: EmbedderClient, drawn: list[Sampled]) -> list[float]:
    """Return the cosine of each; a text that the pod refuses is one whose vector nobody could have made."""
    try:
        found = await client.embed([one.text for one in drawn], InputType.DOCUMENT, background=True)
    except EmbedderError:
        if len(drawn) == 1:
            raise
        return [one for each in drawn for one in await _again(client, [each])]
    cosines = [cosine(one.vector, vector) for one, vector in zip(drawn, found.vectors, strict=True)]
    # A vector of zeros, or of another size, is no text's.
    return [one if math.isfinite(one) else 0.0 for one in cosines]
