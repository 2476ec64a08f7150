"""Tells of raises that a gateway does not follow: each once in its log, its metrics and the index's events.

An operator that lies may write a new epoch many times a second; so events are posted some time apart, the latest of
those that waited, and the metric has them all.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol

from reembed.cluster.client import ClusterError
from reembed.core.model import RefusedRaise
from reembed.gateway.meter import Meter

_BETWEEN_EVENTS = 10.0
# So many are known again when an index goes to and fro between them.
_REMEMBERED = 64

_log = logging.getLogger(__name__)


class Announcer(Protocol):
    """Who tells people; `events` posts Kubernetes events."""

    async def refused(self, uid: str, refused: RefusedRaise) -> None:
        """Tell of a raise that is not followed, of the index with this UID, or raise ClusterError."""
        ...


class Refusals:
    """What was refused, once for each epoch and reason."""

    def __init__(self, meter: Meter, announcer: Announcer | None = None) -> None:
        self._meter = meter
        self._announcer = announcer
        self._told: deque[tuple[str, int, str]] = deque(maxlen=_REMEMBERED)
        self._waiting: tuple[str, RefusedRaise] | None = None
        self._wake = asyncio.Event()

    def seen(self, uid: str, refused: RefusedRaise) -> None:
        """Take note of what the index says now and is not followed."""
        name = (uid, refused.epoch, refused.reason)
        if name in self._told:
            return
        self._told.append(name)
        self._meter.certificate_refused(refused.reason)
        text = "epoch %d is not followed (%s): %s; queries go where they went"
        _log.warning(text, refused.epoch, refused.reason, refused.message)
        self._waiting = uid, refused
        self._wake.set()

    async def run(self) -> None:
        if self._announcer is None:
            return
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._waiting is not None:
                await self._announce(self._announcer, *self._waiting)
            await asyncio.sleep(_BETWEEN_EVENTS)

    async def _announce(self, announcer: Announcer, uid: str, refused: RefusedRaise) -> None:
        try:
            await announcer.refused(uid, refused)
        except (ClusterError, OSError, TimeoutError) as error:
            _log.warning("no event tells that epoch %d was refused: %s", refused.epoch, error or type(error).__name__)
