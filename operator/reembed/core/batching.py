"""How much is embedded in one request: fewer texts under pressure, and fewer where texts are long.

Asked by a backfill pod before each request, with the pressure of its own container. A batch is counted in pages of
text, not in texts: a request's cost grows with its tokens, so one long document counts for several short ones and a
request stays of about one size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

# About 500 tokens of prose or code: what most embedding models read of a text.
PAGE_CHARACTERS = 2000

_MEMORY_HIGH, _MEMORY_LOW = 0.8, 0.5
_CPU_HIGH, _CPU_LOW = 0.9, 0.6


def batch_pages(memory: float | None, cpu: float | None) -> int:
    """Return how many pages of text one request may carry: 8, 4, 2 or 1.

    `memory` and `cpu` are shares of the container's limits; None, where there is no limit or no figure yet, is no
    reason to hurry: it never allows more than the balanced 4.
    """
    if memory is not None and memory > _MEMORY_HIGH:
        return 1
    if cpu is not None and cpu > _CPU_HIGH:
        return 2
    if memory is not None and cpu is not None and memory < _MEMORY_LOW and cpu < _CPU_LOW:
        return 8
    return 4


def pages(text: str) -> int:
    """Return how many pages a text counts for, at least one."""
    return pages_of(len(text))


def pages_of(characters: int) -> int:
    return max(1, math.ceil(characters / PAGE_CHARACTERS))


def fitting(texts: Iterable[str], limit: int) -> int:
    """Return how many of the first texts make a batch of at most `limit` pages; at least one, however long it is."""
    return fitting_pages(map(pages, texts), limit)


def fitting_pages(counts: Iterable[int], limit: int) -> int:
    """Return the same for what counts for so many pages each."""
    count = used = 0
    for one in counts:
        used += one
        if count and used > limit:
            break
        count += 1
    return count
