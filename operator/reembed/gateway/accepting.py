"""Judges what an index with a panel says of its traffic, and keeps in the store what was accepted.

All that changes the routing in force comes through here, one after the other: a reading of the index, a change that the
watch told of, a look at the store. What is decided is `lease`'s matter. Signatures are verified in a thread: those of
one certificate take 1 to 7 ms (the longest that the API takes some hundred), in which callers would wait.

The store is asked before the first routing is followed, and every ten seconds: another gateway may have accepted a
lowering that this one was not told of. It is written where something is owed. Without it no raise is followed, and all
else goes on. Of an index without a panel nothing is asked and nothing written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from reembed import signing
from reembed.core.acceptance import Acceptance, Accepted, Witness
from reembed.core.model import PointerPlan
from reembed.core.quorum.membership import Verify
from reembed.gateway.in_force import RoutingInForce
from reembed.gateway.lease import Lease, Reading, changed, needs_proof, remembered, renewed
from reembed.gateway.meter import Meter
from reembed.gateway.refusals import Announcer, Refusals
from reembed.stores.protocol import Remembering, StoreError

ASK_EVERY = 10.0
_ASK_AGAIN = 2.0

_log = logging.getLogger(__name__)

Step = Callable[[Lease, Witness], Lease]


def _clock() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Judging:
    """What judging is done with: whose signature is whose, the time of day, where it costs nobody time.

    `announcer` tells people of what is refused.
    """

    verify: Verify = signing.verify
    clock: Callable[[], datetime] = _clock
    apart: Callable[[Callable[[], Lease]], Awaitable[Lease]] = asyncio.to_thread
    announcer: Announcer | None = None


class Accepting:
    """The way to a RoutingInForce; `run` keeps what was accepted in step with the store until it is cancelled."""

    def __init__(self, held: RoutingInForce, store: Remembering | None, meter: Meter, judging: Judging) -> None:
        self._held = held
        self._store = store
        self._refusals = Refusals(meter, judging.announcer)
        self._judging = judging
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._failed = ""  # what the store said last, which is told once

    async def renew(self, reading: Reading | None, asked: float) -> None:
        """Take what the API server answered when it was asked at `asked`."""
        step: Step = lambda lease, witness: renewed(lease, reading, asked, witness)  # noqa: E731 - it is a closure
        await self._take(step, lambda lease: needs_proof(lease, reading))

    async def change(self, reading: Reading | None) -> None:
        """Take what a watch told."""
        step: Step = lambda lease, witness: changed(lease, reading, witness)  # noqa: E731 - it is a closure
        await self._take(step, lambda lease: needs_proof(lease, reading))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._refusals.run())
            if self._store is not None:
                tasks.create_task(self._ask_for_ever(self._store))

    async def _ask_for_ever(self, store: Remembering) -> None:
        while True:
            self._wake.clear()
            wait = await self._ask(store)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    async def _ask(self, store: Remembering) -> float:
        """Write what is owed, or look; return after how many seconds to do so again."""
        lease = self._held.lease
        if lease.told is None:
            return ASK_EVERY
        uid, state = lease.uid, lease.acceptance
        try:
            row, pointer = await _look(store, uid, state)
        except StoreError as error:
            if str(error) != self._failed:
                text = (
                    "the store does not tell what gateways accepted, or take it: %s; no candidate gets more until then"
                )
                _log.warning(text, error)
            self._failed = str(error)
            return _ASK_AGAIN
        self._failed = ""

        def step(now: Lease, witness: Witness) -> Lease:
            return remembered(now, row, pointer, witness) if now.uid == uid else now

        await self._take(step, lambda now: now.told is not None and now.told.routing.certificate is not None)
        return ASK_EVERY

    async def _take(self, step: Step, is_long: Callable[[Lease], bool]) -> None:
        async with self._turn:
            before = self._held.lease
            work = partial(step, before, Witness(self._judging.clock(), self._judging.verify))
            after = await self._judging.apart(work) if is_long(before) else work()
            self._held.hold(after)
        if after.told is None:
            return
        if before.told is None or before.uid != after.uid or before.acceptance != after.acceptance:
            self._wake.set()
        if after.acceptance.refused is not None:
            self._refusals.seen(after.uid, after.acceptance.refused)


async def _look(store: Remembering, uid: str, state: Acceptance) -> tuple[Accepted | None, PointerPlan | None]:
    """Return what the store says, after it was told what it is owed."""
    if state.known and state.owed is not None:
        return await store.accept(uid, state.owed), state.pointer
    return await store.accepted(uid)
