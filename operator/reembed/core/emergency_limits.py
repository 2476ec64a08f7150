"""What an embedder may do at a time, normally and in emergency protection, and how long the latter holds.

The limits act inside the process: fewer requests, a shorter queue, smaller calls of the engine, fewer contexts that
compute. A pod's resources stay as they are, since changing them would restart pods in the middle of an emergency.
Emergency protection is a lease that whoever asks for it renews; nobody has to take it back.
"""

from __future__ import annotations

from dataclasses import dataclass

# The mission's numbers.
MOST_REQUESTS = 10
_MEMORY_SHARE = 2  # a half
_CPU_PERCENT = 60
# An operator that died must not leave a pod slowed down for longer.
MOST_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process does at a time.

    Attributes:
        requests: requests under way; None leaves them to the queue's bound.
        body_bytes: a request's body.
        request_tokens: a request that comes while nothing else waits.
        queue_tokens: what waits or is computed, all requests together.
        background_tokens: the same for a background request to be let in; 0 lets none in.
        contexts: contexts that compute side by side, one thread each.
        pack_tokens: tokens of one call of the engine, unless a single text has more.
        pack_texts: texts of one call of the engine.

    """

    requests: int | None
    body_bytes: int
    request_tokens: int
    queue_tokens: int
    background_tokens: int
    contexts: int
    pack_tokens: int
    pack_texts: int


def conservative(normal: Limits, cpus: int) -> Limits:
    """Return the limits of emergency protection: 10 requests, half of what waits, 60 % of the CPU, calls of one text.

    Half of the bounds is half of what requests may add to the process's memory, not half of its memory: buffers that
    contexts have once used stay theirs until the process ends, and so does most of what the allocator keeps. The
    contexts are counted against the CPUs, not against the normal contexts, of which there is one more; with fewer than
    two CPUs one context computes all the same, since none would mean no answers.
    """
    return Limits(
        requests=min(MOST_REQUESTS, normal.requests or MOST_REQUESTS),
        body_bytes=_half(normal.body_bytes),
        request_tokens=_half(normal.request_tokens),
        queue_tokens=_half(normal.queue_tokens),
        background_tokens=0,
        contexts=min(normal.contexts, max(1, cpus * _CPU_PERCENT // 100)),
        pack_tokens=_half(normal.pack_tokens),
        pack_texts=1,
    )


def _half(bound: int) -> int:
    return max(1, bound // _MEMORY_SHARE)


@dataclass(frozen=True, slots=True)
class Lease:
    """Emergency protection from one time to another, in seconds of the caller's clock."""

    since: float
    until: float

    def left(self, now: float) -> float:
        """Return for how many seconds it still holds; 0 if it ended."""
        return max(0.0, self.until - now)


def renewed(lease: Lease | None, seconds: float, now: float) -> Lease | None:
    """Return the lease after somebody asked for `seconds` from now on; the last word counts, and 0 lifts it."""
    if seconds <= 0:
        return None
    held = lease is not None and lease.left(now) > 0
    return Lease(lease.since if lease is not None and held else now, now + seconds)
