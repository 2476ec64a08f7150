"""Looks whether an application keeps its own column of vectors fresh, where that column is the way back.

Called by the follower now and then, for what it does not write itself. A few documents whose text changed some time ago
are embedded again and compared with what the column holds now; what was compared once is not embedded again while text
and vector stay what they were. A text that the model refuses needs no vector. It changes nothing, and judges nothing:
`core.keeping` does.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from reembed.backfill.embedding import DocumentEmbedder, cosine
from reembed.core.inspection import MIN_COSINE
from reembed.core.keeping import GRACE, SAMPLE
from reembed.core.model import CollectionPlan, Kept
from reembed.stores.protocol import Document, Following, Rejected, StoreError, StoreUnavailable, Watched

_BATCH = 8
# Background requests may be kept waiting for long; what was embedded until then is compared.
_PATIENCE = 30.0
_EXAMPLES = 5

# Of a document: its id, its text and its vector, as one digest.
_Seen = bytes


class Proving:
    """The looks at one column."""

    def __init__(
        self, store: Following, documents: DocumentEmbedder, plan: CollectionPlan, patience: float = _PATIENCE
    ) -> None:
        self._store = store
        self._documents = documents
        self._plan = plan
        self._patience = patience
        self._near: dict[_Seen, bool] = {}  # whether the vector is the text's
        self._refused: set[_Seen] = set()

    async def look(self) -> Kept:
        """Return what was found.

        Raises:
            StoreUnavailable: nothing can be said just now.

        """
        try:
            found = await self._store.watched(self._plan.name, GRACE.total_seconds(), SAMPLE)
        except StoreUnavailable:
            raise
        except StoreError as error:  # the column is gone, or may not be read: nothing could go back to it
            return Kept(changed=False, looked=0, missing=0, compared=0, far=0, problem=str(error))
        await self._embed(found.documents)
        looked = [one for one in found.documents if _seen(one) not in self._refused]
        missing = [one.id for one in looked if one.vector is None]
        compared = [one for one in looked if one.vector is not None and _seen(one) in self._near]
        far = [one.id for one in compared if not self._near[_seen(one)]]
        examples = tuple((missing + far)[:_EXAMPLES])
        return Kept(found.changed, len(looked), len(missing), len(compared), len(far), examples)

    async def _embed(self, documents: Sequence[Watched]) -> None:
        """Compare what was not compared yet, as far as the pool embeds it in time."""
        seen = {_seen(one): one for one in documents}
        self._near = {key: near for key, near in self._near.items() if key in seen}
        self._refused &= seen.keys()
        new = [one for key, one in seen.items() if key not in self._near and key not in self._refused]
        try:
            async with asyncio.timeout(self._patience):
                for start in range(0, len(new), _BATCH):
                    await self._compare(new[start : start + _BATCH])
        except TimeoutError:
            return

    async def _compare(self, batch: Sequence[Watched]) -> None:
        answers = await self._documents.embed([Document(one.id, one.text) for one in batch])
        for one, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Rejected):
                self._refused.add(_seen(one))
            else:
                self._near[_seen(one)] = one.vector is not None and cosine(one.vector, answer) >= MIN_COSINE


def _seen(one: Watched) -> _Seen:
    parts = (one.id.encode(), one.text.encode(), one.vector or b"")
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
