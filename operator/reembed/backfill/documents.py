"""Which documents can have a vector, and which vectors can be stored: pure checks of the pipeline.

A document that fails one is stored as rejected with its reason, and the shard goes on: one bad row must not stop a
million good ones. How many may be rejected before traffic must not move is the migration's limit. No message quotes a
document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from reembed.client import TextRefused, TextTooLong
from reembed.stores.protocol import Document, Rejected, Written

HASH_BYTES = 16


def unreadable(document: Document) -> Rejected | None:
    """Return why the document's text cannot be embedded, None if it can be tried."""
    if document.failed is not None:
        return Rejected(
            document.id,
            "TextFailed",
            f"the source's expression fails for this row with SQLSTATE {document.failed}, so there is nothing to "
            "embed; correct the row, and its update is embedded",
        )
    if document.text is None:
        return Rejected(document.id, "TextMissing", "the text is NULL, so there is nothing to embed")
    if not document.text.strip():
        return Rejected(document.id, "TextEmpty", "the text is empty or only white space, so there is nothing to embed")
    return None


def refused(document: Document, error: TextRefused) -> Rejected:
    """Return what the embedder's refusal of this document's text means for it."""
    return Rejected(document.id, "TextTooLong" if isinstance(error, TextTooLong) else "TextInvalid", str(error))


def all_checked(
    documents: Sequence[Document], answers: Sequence[bytes | Rejected], dimensions: int
) -> list[Written | Rejected]:
    """Return each document with its vector, or why it has none.

    Nearly always all can be stored, and one look at all of them takes a tenth of a look at each.
    """
    vectors = [answer for answer in answers if not isinstance(answer, Rejected)]
    if len(vectors) == len(answers) and _sound(vectors, dimensions):
        found = zip(documents, vectors, strict=True)
        return [Written(document.id, text_hash(document.text or ""), vector) for document, vector in found]
    return [
        answer if isinstance(answer, Rejected) else checked(document, answer, dimensions)
        for document, answer in zip(documents, answers, strict=True)
    ]


def checked(document: Document, vector: bytes, dimensions: int) -> Written | Rejected:
    """Return the document with its vector, or why the vector cannot be stored."""
    numbers = np.frombuffer(vector, "<f4")
    if len(numbers) != dimensions:
        return Rejected(
            document.id,
            "VectorWrongLength",
            f"the embedder answered {len(numbers)} dimensions, the collection has {dimensions}",
        )
    if not np.isfinite(numbers).all():
        return Rejected(document.id, "VectorNotFinite", "the embedder answered a vector with NaN or infinite numbers")
    if not numbers.any():
        return Rejected(document.id, "VectorZero", "the embedder answered a vector of zeros, which is near to nothing")
    return Written(document.id, text_hash(document.text or ""), vector)


def _sound(vectors: Sequence[bytes], dimensions: int) -> bool:
    if any(len(vector) != 4 * dimensions for vector in vectors):
        return False
    numbers = np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), dimensions)
    return bool(np.isfinite(numbers).all() and numbers.any(axis=1).all())


def text_hash(text: str) -> bytes:
    """Return what tells later whether a text is still the one that was embedded."""
    return hashlib.sha256(text.encode()).digest()[:HASH_BYTES]
