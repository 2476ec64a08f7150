"""Embeds a batch of documents however long it takes; each ends with a vector or with a reason why it has none.

Used by the pipeline's concurrent embedding tasks. A text that the embedder refuses is taken out of its batch and the
rest is asked for again. An embedder that is busy, rolled, or answers with another model is waited for: pods of a pool
come and go during a backfill of many hours, and none of that is a document's fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from reembed.backfill.documents import refused, unreadable
from reembed.backfill.retries import Retrying
from reembed.client import Embedded, EmbedderBusy, EmbedderUnavailable, FingerprintMismatch, TextRefused
from reembed.core.model import InputType
from reembed.stores.protocol import Document, Rejected

PASSING = (EmbedderBusy, EmbedderUnavailable, FingerprintMismatch)


class Embedder(Protocol):
    """One model's embedder; `reembed.client.EmbedderClient` is one."""

    async def embed(self, texts: Sequence[str], input_type: InputType, *, background: bool = False) -> Embedded: ...

    async def boundaries(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        """Return where the model's tokens end in each text, in characters; a background request."""
        ...


@dataclass(frozen=True, slots=True)
class DocumentEmbedder:
    """An embedder asked for documents, in the background, of one fingerprint."""

    embedder: Embedder
    fingerprint: str
    retrying: Retrying

    async def embed(self, documents: Sequence[Document]) -> list[bytes | Rejected]:
        """Return a vector or a rejection for each document, in order."""
        results: list[bytes | Rejected | None] = [unreadable(document) for document in documents]
        while waiting := [n for n, result in enumerate(results) if result is None]:
            for n, result in zip(waiting, await self._attempt([documents[n] for n in waiting]), strict=True):
                results[n] = result
        return [result for result in results if result is not None]

    async def _attempt(self, documents: Sequence[Document]) -> Sequence[bytes | Rejected | None]:
        """Return vectors for all, or a rejection of one and None for the others, which are to be asked for again."""
        try:
            return await self.retrying(lambda: self._request(documents), PASSING, "embedding documents")
        except TextRefused as error:
            if len(documents) == 1:
                return [refused(documents[0], error)]
            if error.index is not None and 0 <= error.index < len(documents):
                return [refused(one, error) if n == error.index else None for n, one in enumerate(documents)]
        # The embedder did not say which text it refuses: each is asked for by itself.
        return [result for one in documents for result in await self._attempt([one])]

    async def _request(self, documents: Sequence[Document]) -> Sequence[bytes]:
        texts = [document.text or "" for document in documents]
        answer = await self.embedder.embed(texts, InputType.DOCUMENT, background=True)
        if answer.fingerprint != self.fingerprint:
            raise FingerprintMismatch("the pool", self.fingerprint, answer.fingerprint)
        if len(answer.vectors) != len(texts):
            raise EmbedderUnavailable(f"{len(texts)} texts were answered with {len(answer.vectors)} vectors")
        return answer.vectors


def cosine(stored: bytes, answer: bytes) -> float:
    """Return how near two vectors are; what a pool makes another size of, it has not made."""
    if len(answer) != len(stored):
        return 0.0
    one, other = (np.frombuffer(vector, "<f4").astype("f8") for vector in (stored, answer))
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths > 0 else 0.0
