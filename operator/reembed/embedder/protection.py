"""Which limits hold now: the normal ones, or for as long as somebody renews it those of emergency protection.

The operator asks for it by HTTP while a migration is in an emergency. Nothing is restarted and no model is loaded
again: `changed` hands the limits that hold from now on to the engine, on the way in and on the way out. The process
keeps the lease, so that a pod goes back to normal also when the operator is gone.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from reembed.core.emergency_limits import Lease, Limits, conservative, renewed

_log = logging.getLogger("reembed.embedder")


class Overloaded(Exception):
    """More is asked for than emergency protection allows; `retry_after` says in how many seconds to come again."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


# A body up to here is always read: many of them are still little.
_SMALL_BYTES = 64 << 10


class Admitted:
    """A request that is under way, and what its body takes of the memory that all bodies share."""

    def __init__(self, protection: Protection) -> None:
        self._protection = protection
        self._bytes = 0

    def take(self, size: int) -> None:
        """Take room for so many bytes more, until the request is answered.

        Raises:
            Overloaded: other requests have it.

        """
        self._bytes += size
        self._protection.take_bytes(size, self._bytes)

    def leave(self) -> None:
        self._protection.bytes_under_way -= self._bytes


class Protection:
    """The limits of one process and who is let in under them. All methods belong to one event loop."""

    def __init__(self, normal: Limits, cpus: int, changed: Callable[[Limits], None]) -> None:
        self._normal = normal
        self._conservative = conservative(normal, cpus)
        self._changed = changed
        self._lease: Lease | None = None
        self._end: asyncio.TimerHandle | None = None
        self._refused = 0
        self.entered = 0
        self.under_way = 0
        self.under_way_peak = 0  # since the limits last changed
        self.bytes_under_way = 0  # of the bodies of the requests that are

    @property
    def holds(self) -> bool:
        return self._lease is not None

    @property
    def limits(self) -> Limits:
        return self._conservative if self.holds else self._normal

    def hold(self, seconds: float) -> None:
        """Hold emergency protection for `seconds` from now on; 0 lifts it."""
        loop = asyncio.get_running_loop()
        before, self._lease = self._lease, renewed(self._lease, seconds, loop.time())
        if self._end is not None:
            self._end.cancel()
        self._end = loop.call_later(seconds, self.hold, 0.0) if self._lease is not None else None
        if before is None and self._lease is not None:
            self.entered += 1
            self._refused = 0
            self._change()
            _log.warning("emergency protection for %g s unless renewed: %s", seconds, _told(self.limits, self._normal))
        elif before is not None and self._lease is None:
            self._change()
            held = loop.time() - before.since
            _log.info("emergency protection ended after %.0f s; requests it refused: %d", held, self._refused)

    @contextmanager
    def admitted(self, *, background: bool) -> Iterator[Admitted]:
        """Count a request as under way.

        Raises:
            Overloaded: emergency protection lets it not in.

        """
        if background:
            self.refuse_background()
        most = self.limits.requests
        if most is not None and self.under_way >= most:
            raise self._refusal(f"{self.under_way} requests are under way, emergency protection allows {most}")
        self.under_way += 1
        self.under_way_peak = max(self.under_way_peak, self.under_way)
        request = Admitted(self)
        try:
            yield request
        finally:
            request.leave()
            self.under_way -= 1

    def refuse_background(self) -> None:
        """Raise Overloaded if no background request is let in now."""
        if self._lease is not None:
            left = self._lease.left(asyncio.get_running_loop().time())
            until = datetime.now(UTC) + timedelta(seconds=left)
            text = f"emergency protection holds until {until:%H:%M:%S} UTC unless renewed: no background requests"
            raise self._refusal(text, max(1, math.ceil(left)))

    def take_bytes(self, size: int, own: int) -> None:
        """Count bytes of a body that has `own` by now; raise Overloaded if it is large and others have the room."""
        self.bytes_under_way += size
        most, all_bytes = self.limits.body_bytes, self.bytes_under_way
        if own > _SMALL_BYTES and own < all_bytes > most:
            raise self._refusal(f"{all_bytes} bytes of requests are under way, at most {most} are taken at a time")

    def refuse_body(self, most: int) -> None:
        """Raise Overloaded if a body above `most` bytes is one that would normally be read."""
        if most < self._normal.body_bytes:
            raise self._refusal(f"the body is larger than {most} bytes, which emergency protection allows")

    def _refusal(self, found: str, retry_after: int = 1) -> Overloaded:
        self._refused += 1
        return Overloaded(f"{found}; try again later", retry_after)

    def _change(self) -> None:
        self.under_way_peak = self.under_way
        self._changed(self.limits)


def _told(limits: Limits, normal: Limits) -> str:
    return (
        f"{limits.requests} requests at a time, {limits.queue_tokens} of {normal.queue_tokens} tokens may wait, "
        f"{limits.contexts} of {normal.contexts} contexts compute, {limits.pack_texts} text a call of the engine, "
        "no background requests"
    )
