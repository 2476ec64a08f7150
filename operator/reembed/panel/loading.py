"""How a pod fetched its model, by the few series of its /metrics that an agent looks at."""

from __future__ import annotations

from reembed.core import exposition, load, measures
from reembed.core.exposition import Sample
from reembed.core.quorum.evidence import Loading

_DOWNLOAD = "reembed_embedder_download_"
_LOADING = (
    _DOWNLOAD,
    "reembed_embedder_validation_accuracy",
    "reembed_embedder_class_cosine",
)
_READ = (*load.SERIES, measures.PROCESS, *_LOADING)


def samples(page: str) -> list[Sample]:
    """Return what is read of a page; lines that are none are passed over, since nothing is judged by their absence."""
    found: list[Sample] = []
    for line in exposition.lines(page, _READ):
        try:
            sample = exposition.sample(line)
        except ValueError:
            continue
        if sample is not None:
            found.append(sample)
    return found


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
