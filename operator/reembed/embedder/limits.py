"""What an embedder of a model may normally do at a time; emergency protection derives its own limits from these."""

from __future__ import annotations

from reembed.core.emergency_limits import Limits
from reembed.core.model import Device, Model
from reembed.embedder.packing import PACK_TEXTS, PACK_TOKENS
from reembed.embedder.requests import MOST_TEXTS

# The plan has room for one such body (`embedder.plan`), and so many bytes are taken of all requests together.
_LEAST_BYTES, _MOST_BYTES = 4 << 20, 8 << 20
# Bytes of a body for each token that the model may read of it: four times what they have on average.
_BYTES_PER_TOKEN = 16
# Some seconds' work for a small model; who would wait longer had better try another pod.
_QUEUE_TOKENS = 65_536
# A context's buffers grow with its capacity times the vocabulary (60 MiB at 512 tokens and 30,000 words). Where a model
# reads more than this, one context alone does so.
_SHORT_TOKENS = 512
# A GPU computes one large call faster than many small ones, and one call at a time.
_GPU_PACK_TOKENS = 2048


def capacities(max_tokens: int, cpus: int, device: Device = Device.CPU) -> tuple[int, ...]:
    """Return how many tokens each context reads at once: live-only first, last the one that can read the longest text.

    Queries are short; a long one waits for a context of the others. With one context more than there is CPU time for, a
    live query never waits for a whole background pack. A GPU has one context.
    """
    if device is Device.GPU:
        return (max(max_tokens, _GPU_PACK_TOKENS),)
    others = max(PACK_TOKENS, min(max_tokens, _SHORT_TOKENS))
    return (PACK_TOKENS, *[others] * (cpus - 1), max(PACK_TOKENS, max_tokens))


def body_bytes(model: Model) -> int:
    """Return how large a request's body may be: what the model may read of a full page, and no less than 4 MiB."""
    return min(_MOST_BYTES, max(_LEAST_BYTES, MOST_TEXTS * model.max_tokens * _BYTES_PER_TOKEN))


def normal(model: Model, cpus: int, device: Device = Device.CPU) -> Limits:
    """Return the limits of a process that has `cpus` CPUs."""
    return Limits(
        requests=None,
        body_bytes=body_bytes(model),
        # A request larger than the whole queue must pass when nothing waits.
        request_tokens=MOST_TEXTS * model.max_tokens,
        queue_tokens=_QUEUE_TOKENS,
        # There is always room for a live query.
        background_tokens=_QUEUE_TOKENS // 2,
        contexts=len(capacities(model.max_tokens, cpus, device)),
        pack_tokens=_GPU_PACK_TOKENS if device is Device.GPU else PACK_TOKENS,
        pack_texts=PACK_TEXTS,
    )
