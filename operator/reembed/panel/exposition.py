"""Reads the few series of a pod's /metrics that an agent looks at, in the text format as our own pods write it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from reembed.core import load, measures
from reembed.core.quorum.evidence import Loading

_DOWNLOAD = "reembed_embedder_download_"
_LOADING = (
    _DOWNLOAD,
    "reembed_embedder_validation_accuracy",
    "reembed_embedder_class_cosine",
)
_READ = (*load.SERIES, measures.PROCESS, *_LOADING)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# A page has some 50 KB; who writes more is none of ours.
LONGEST = 1 << 20

Sample = tuple[str, Mapping[str, str], float]


def samples(page: str) -> list[Sample]:
    """Return what is read of a page; lines that are none are passed over, since nothing is judged by their absence."""
    return list(_samples(page))


def _samples(page: str) -> Iterator[Sample]:
    for line in page.split("\n"):
        if not line.startswith(_READ):
            continue
        series, _, value = line.rpartition(" ")
        name, _, labels = series.partition("{")
        try:
            number = float(value)
        except ValueError:
            continue
        if math.isfinite(number):
            yield name, dict(_LABEL.findall(labels)), number


def loading(found: list[Sample], before: tuple[float, Loading] | None, now: float) -> Loading:
    """Return how a pod fetched its model; `before` is the last look with its time in seconds."""
    plain = {name: value for name, labels, value in found if not labels}
    breaker = next(
        (labels.get("state", "") for name, labels, value in found if name == f"{_DOWNLOAD}breaker" and value == 1),
        "closed",
    )
    done, size = plain.get(f"{_DOWNLOAD}bytes", 0.0), plain.get(f"{_DOWNLOAD}size_bytes", 0.0)
    return Loading(
        done=done,
        size=size,
        bytes_per_second=_rate(done, size, before, now),
        breaker=breaker,
        transient=_transient(plain.get("reembed_memory_used_bytes"), done, size, before),
        accuracy=plain.get("reembed_embedder_validation_accuracy"),
        class_cosine=plain.get("reembed_embedder_class_cosine"),
    )


def _rate(done: float, size: float, before: tuple[float, Loading] | None, now: float) -> float | None:
    """Return how fast the file grew since the last look, None unless it was being fetched all the time."""
    if before is None or now <= before[0] or not 0 < before[1].done < size or done >= size:
        return None
    return (done - before[1].done) / (now - before[0])


def _transient(used: float | None, done: float, size: float, before: tuple[float, Loading] | None) -> float | None:
    """Return the most memory that was seen while the file was being fetched, None if nobody looked meanwhile."""
    known = before[1].transient if before is not None else None
    fetching = used is not None and 0 < done < size
    return max(used or 0.0, known or 0.0) if fetching else known
