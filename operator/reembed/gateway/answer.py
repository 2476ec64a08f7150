"""One request, one snapshot of the routing, one arm; and the old arm's answer where the new one fails.

Called by the HTTP handlers and by the probes with a piece of work ("embed this and search it") that is done wholly by
one arm: whoever embeds also names the collection and the fingerprint to the store, so vectors of one model can't meet
another model's collection, whatever the routing does meanwhile. If the candidate fails in any way, is too slow to
leave the serving arm its time, or is left out by the guard, the serving arm does the same request. Each arm is counted
for what it did itself. No arm is asked twice, but for the last one while its embedder is busy or away (`again`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from reembed.client import EmbedderError, TextRefused
from reembed.core.buckets import choose
from reembed.core.model import Arm, Routing
from reembed.gateway.again import while_passing
from reembed.gateway.guard import Guard, LeftOut
from reembed.gateway.meter import Meter, Outcome, Result
from reembed.gateway.patience import OutOfTime, Patience
from reembed.stores.protocol import FilterRefused, StoreError

T = TypeVar("T")
Work = Callable[[Arm], Awaitable[T]]

# The request is at fault, by the word of an arm.
AT_FAULT = (TextRefused, FilterRefused)

# Seconds between two log lines about one arm.
_COMPLAIN_EVERY = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds for a request as a whole, and for the candidate's part of it.

    The difference is what the serving arm has left when a candidate hangs: it must cover that model on a busy pod.
    """

    total: float = 10.0
    candidate: float = 5.0


class NothingServes(Exception):
    """No arm may answer: the index has no vectors yet, or nothing is known of its routing."""


class ArmsFailed(Exception):
    """Every arm that could answer failed; `cause` is what the serving one said."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What an arm found, and which one it was."""

    value: T
    arm: Arm
    fell_back: bool


@dataclass(frozen=True, slots=True)
class _Success(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception
    seconds: float


class Answering:
    """Does work by the arm that a routing and a caller's key ask for."""

    def __init__(self, meter: Meter, deadlines: Deadlines, guard: Guard) -> None:
        self._meter = meter
        self._guard = guard
        self._deadlines = deadlines
        self._patience = Patience()
        self._complained: dict[Arm, float] = {}

    async def answer(self, routing: Routing, key: str, work: Work[T], *, timed: bool = True) -> Answer[T]:
        """Return the answer of the caller's arm, or of the serving arm in its place.

        `timed` is False for work whose length says nothing of a query's latency.

        Raises:
            NothingServes: there is no arm to ask.
            TextRefused: the text is at fault, by the serving arm's word too.
            FilterRefused: its filter is, in the same way.
            ArmsFailed: no arm answered.

        """
        arm = choose(routing, key)
        if arm is None:
            raise NothingServes
        fallback = routing.serving if arm != routing.serving else None
        if fallback is None:
            first = await self._try(arm, self._patient(work), self._deadlines.total, timed=timed)
        else:
            first = self._left_out(arm) or await self._try(arm, work, self._deadlines.candidate, timed=timed)
        if isinstance(first, _Success):
            self._meter.answer(Result.ANSWERED)
            return Answer(first.value, arm, fell_back=False)
        if fallback is None:
            raise self._final(first.error)
        second = await self._try(fallback, self._patient(work), self._deadlines.total - first.seconds, timed=timed)
        if isinstance(second, _Failure):
            raise self._final(second.error)
        if isinstance(first.error, AT_FAULT):
            # What the serving arm can answer is the candidate's failure; what both refuse is the caller's.
            self._meter.arm(arm, Outcome.ERROR, seconds=None, probe=False)
        self._meter.answer(Result.FELL_BACK)
        return Answer(second.value, fallback, fell_back=True)

    async def probe(self, arm: Arm, work: Work[object]) -> bool:
        """Do `work` by this arm alone and return whether it succeeded; counted as a probe."""
        outcome = await self._try(arm, work, self._deadlines.candidate, probe=True)
        if isinstance(outcome, _Failure) and isinstance(outcome.error, AT_FAULT):
            self._meter.arm(arm, Outcome.ERROR, seconds=None, probe=True)
        return isinstance(outcome, _Success)

    async def _try(
        self, arm: Arm, work: Work[T], limit: float, *, probe: bool = False, timed: bool = True
    ) -> _Success[T] | _Failure:
        """Do the work by one arm and count how it did, but for what it refuses: whose fault that is shows later."""
        clock = asyncio.get_running_loop().time
        began = clock()

        def count(outcome: Outcome, *, telling: bool) -> None:
            self._meter.arm(arm, outcome, seconds=clock() - began if telling and timed else None, probe=probe)

        try:
            with self._guard.attempt(arm):
                value = await self._patience.wait(work(arm), limit)
        except asyncio.CancelledError:
            # It took at least so long: a hanging arm shows in its latency although its callers hang up.
            count(Outcome.DROPPED, telling=True)
            raise
        except AT_FAULT as error:
            return _Failure(error, clock() - began)
        except Exception as error:  # noqa: BLE001 - whatever breaks in an arm, known or not, must not cost the query
            count(Outcome.ERROR, telling=isinstance(error, OutOfTime))
            self._guard.failed(arm)
            self._complain(arm, error, clock())
            return _Failure(error, clock() - began)
        count(Outcome.OK, telling=True)
        self._guard.succeeded(arm)
        return _Success(value)

    def _left_out(self, arm: Arm) -> _Failure | None:
        try:
            self._guard.check(arm)
        except LeftOut as error:
            self._meter.arm(arm, Outcome.ERROR, seconds=None, probe=False)
            self._complain(arm, error, asyncio.get_running_loop().time())
            return _Failure(error, 0.0)
        return None

    def _final(self, error: Exception) -> Exception:
        if isinstance(error, AT_FAULT):
            return error
        self._meter.answer(Result.FAILED)
        return ArmsFailed(error)

    def _complain(self, arm: Arm, error: Exception, now: float) -> None:
        """Log why an arm failed, once in a while: the counters say how often."""
        if now - self._complained.get(arm, -_COMPLAIN_EVERY) < _COMPLAIN_EVERY:
            return
        self._complained[arm] = now
        expected = isinstance(error, EmbedderError | StoreError | OutOfTime | LeftOut)
        _log.warning(
            "arm %s (collection %s) failed: %s",
            arm.pool,
            arm.collection,
            error if expected else type(error).__name__,
            exc_info=None if expected else error,
        )

    def _patient(self, work: Work[T]) -> Work[T]:
        """Return the same work for the last arm that may be asked."""
        return lambda arm: while_passing(lambda: work(arm), lambda: self._guard.has_room(arm))
