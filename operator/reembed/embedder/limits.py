"""What an embedder of a model may normally do at a time; emergency protection derives its own limits from these."""

from __future__ import annotations

from reembed.core.emergency_limits import Limits
from reembed.core.model import Model
from reembed.embedder.packing import PACK_TEXTS, PACK_TOKENS
from reembed.embedder.requests import MOST_TEXTS

_MOST_BYTES = 16 << 20
# Some seconds' work for a small model; who would wait longer had better try another pod.
_QUEUE_TOKENS = 65_536


def normal(model: Model, cpus: int) -> Limits:
    """Return the limits of a process that has `cpus` CPUs."""
    return Limits(
        requests=None,
        body_bytes=_MOST_BYTES,
        # A request larger than the whole queue must pass when nothing waits.
        request_tokens=MOST_TEXTS * model.max_tokens,
        queue_tokens=_QUEUE_TOKENS,
        # There is always room for a live query.
        background_tokens=_QUEUE_TOKENS // 2,
        # With one context more than there is CPU time for, a live query never waits for a whole background pack.
        contexts=cpus + 1,
        pack_tokens=PACK_TOKENS,
        pack_texts=PACK_TEXTS,
    )
