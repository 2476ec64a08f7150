"""Documents as they are embedded: whole, or cut into parts by the tokenizer of the collection's model.

Used by the pipeline and by the follower, between what they read and what they send. A document is stored whole or not
at all: one part that cannot be embedded rejects it. The embedder's pods know the vocabulary, so they are asked where
tokens end, at background priority and in requests of bounded size; a text so short that it must fit is not asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reembed.backfill.documents import all_checked, checked, refused, text_hash, unreadable
from reembed.backfill.embedding import PASSING, DocumentEmbedder
from reembed.backfill.retries import Retrying
from reembed.client import BATCH_LIMIT, TextRefused
from reembed.core.batching import fitting, fitting_pages, pages, pages_of
from reembed.core.chunking import MOST_PARTS, Span, cut
from reembed.core.model import Chunking
from reembed.stores.protocol import Document, Part, Rejected, Written

# Of text in one request for its tokens: an answer has about a number for each four characters.
_PAGES = 128

Answer = bytes | Rejected


@dataclass(frozen=True, slots=True)
class Cut:
    """A document with the parts that its text is embedded in; None is the whole text, in a collection without parts."""

    document: Document
    spans: tuple[Span, ...] | None = None
    rejected: Rejected | None = None  # why it cannot be cut

    @property
    def count(self) -> int:
        """Return how many vectors the document gets."""
        return 1 if self.spans is None else max(1, len(self.spans))

    @property
    def pages(self) -> int:
        if self.spans is None:
            return pages(self.document.text or "")
        return max(1, sum([pages_of(one.end - one.start) for one in self.spans]))

    def texts(self) -> list[Document]:
        """Return the texts to embed as documents of their own; one that was rejected has none."""
        if self.rejected is not None:
            return []
        if self.spans is None:
            return [self.document]
        text = self.document.text or ""
        return [Document(self.document.id, text[one.start : one.end]) for one in self.spans]


@dataclass(frozen=True, slots=True)
class Cutter:
    """Cuts documents for one collection; None leaves them whole."""

    chunking: Chunking | None
    documents: DocumentEmbedder
    retrying: Retrying

    async def cut(self, documents: Sequence[Document]) -> list[Cut]:
        """Return the documents with their parts, in order."""
        if self.chunking is None:
            return [Cut(document) for document in documents]
        asked = [one for one in documents if unreadable(one) is None and not self._surely_fits(one.text or "")]
        found: dict[str, Cut] = {}
        while asked:
            size = min(fitting([one.text or "" for one in asked], _PAGES), BATCH_LIMIT)
            found |= {one.document.id: one for one in await self._ask(asked[:size], self.chunking)}
            asked = asked[size:]
        return [found.get(one.id) or _whole(one) for one in documents]

    def _surely_fits(self, text: str) -> bool:
        """Return whether a text has no more bytes than a part may have tokens: no token has less than one."""
        most = self.chunking.max_tokens if self.chunking is not None else 0
        return len(text) <= most and len(text.encode()) <= most

    async def _ask(self, documents: Sequence[Document], chunking: Chunking) -> list[Cut]:
        texts = [document.text or "" for document in documents]
        try:
            ends = await self.retrying(lambda: self.documents.embedder.boundaries(texts), PASSING, "reading tokens")
        except TextRefused as error:
            if len(documents) == 1:
                return [Cut(documents[0], rejected=refused(documents[0], error))]
            return [found for one in documents for found in await self._ask([one], chunking)]
        return [_parts(one, found, chunking) for one, found in zip(documents, ends, strict=True)]


async def embedded(cuts: Sequence[Cut], documents: DocumentEmbedder, limit: int) -> list[Answer]:
    """Return an answer for each text of the documents, asked for in requests of up to `limit` pages."""
    answers, texts = list[Answer](), [text for one in cuts for text in one.texts()]
    while texts:
        size = min(fitting([one.text or "" for one in texts], limit), BATCH_LIMIT)
        answers += await documents.embed(texts[:size])
        texts = texts[size:]
    return answers


def divided(cuts: Sequence[Cut], most: int) -> list[Sequence[Cut]]:
    """Return the documents in groups of up to `most` vectors; one of more is alone."""
    groups, rest = list[Sequence[Cut]](), list(cuts)
    while rest:
        size = fitting_pages([one.count for one in rest], most)
        groups.append(rest[:size])
        rest = rest[size:]
    return groups


def all_results(cuts: Sequence[Cut], answers: Sequence[Answer], dimensions: int) -> list[Written | Rejected]:
    """Return each document with its vectors, or why it has none; `answers` are of all their texts."""
    if all(one.spans is None and one.rejected is None for one in cuts):
        return all_checked([one.document for one in cuts], answers, dimensions)
    results, left = list[Written | Rejected](), list(answers)
    for one in cuts:
        count = len(one.texts())
        results.append(_result(one, left[:count], dimensions))
        left = left[count:]
    return results


def _result(one: Cut, answers: Sequence[Answer], dimensions: int) -> Written | Rejected:
    if one.rejected is not None:
        return one.rejected
    document, spans = one.document, one.spans or ()
    vectors = list[bytes]()
    for number, answer in enumerate(answers, 1):
        found = answer if isinstance(answer, Rejected) else checked(document, answer, dimensions)
        if isinstance(found, Rejected):
            told = f"part {number} of {len(answers)}: {found.message}" if len(answers) > 1 else found.message
            return Rejected(found.id, found.reason, told)
        vectors.append(found.vector)
    others = tuple([Part(span, vector) for span, vector in zip(spans[1:], vectors[1:], strict=True)])
    return Written(document.id, text_hash(document.text or ""), vectors[0], spans[0] if spans else None, others)


def _whole(document: Document) -> Cut:
    return Cut(document, (Span(0, len(document.text or "")),), unreadable(document))


def _parts(document: Document, ends: Sequence[int], chunking: Chunking) -> Cut:
    spans = cut(document.text or "", ends, chunking)
    if len(spans) <= MOST_PARTS:
        return Cut(document, spans)
    message = (
        f"the text has {len(ends)} tokens, which are {len(spans)} parts of {chunking.max_tokens}, above the limit of"
        f" {MOST_PARTS} for a document, so it is not embedded; divide it, or choose longer parts"
    )
    return Cut(document, rejected=Rejected(document.id, "TooManyParts", message))
