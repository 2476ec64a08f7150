"""How texts are divided into requests to an endpoint, and what each counts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# text-embeddings-inference takes so many texts by default, the others more.
_BATCH_TEXTS = 32
_BATCH_TOKENS = 16_384
_CHARACTERS_PER_TOKEN = 3


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts of one request to the endpoint; `first` is the place of the first among those that were asked for."""

    first: int
    texts: tuple[str, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(map(tokens_of, self.texts))

    def halves(self) -> tuple[Batch, Batch]:
        middle = len(self.texts) // 2
        return Batch(self.first, self.texts[:middle]), Batch(self.first + middle, self.texts[middle:])


def batches(texts: Sequence[str]) -> list[Batch]:
    made, first, tokens = [], 0, 0
    for index, text in enumerate(texts):
        more = tokens_of(text)
        if index > first and (index - first == _BATCH_TEXTS or tokens + more > _BATCH_TOKENS):
            made.append(Batch(first, tuple(texts[first:index])))
            first, tokens = index, 0
        tokens += more
    return [*made, Batch(first, tuple(texts[first:]))]


def tokens_of(text: str) -> int:
    """Return about how many tokens a text has, rather too many than too few."""
    return len(text.encode()) // _CHARACTERS_PER_TOKEN + 2


def shared(total: int | None, estimates: Sequence[int]) -> list[int]:
    """Divide what the endpoint counted among a batch's texts, by their estimates; the sum is what it counted."""
    if total is None:
        return list(estimates)
    whole, ends, done = sum(estimates), [], 0
    for estimate in estimates:
        done += estimate
        ends.append(total * done // whole)
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
