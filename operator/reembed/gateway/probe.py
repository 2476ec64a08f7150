"""Asks each arm the same small question every few seconds, so that its health is known without callers.

Run once per process by the application. The candidate is probed from the moment the routing names it, at weight 0 too:
traffic may only move to an arm that answers its probes. A probe goes the whole way of a query (embed, then search one
document) and is counted like one, marked as a probe.
"""

from __future__ import annotations

import asyncio

from reembed.core.model import Arm
from reembed.gateway.answer import Answering
from reembed.gateway.embedders import Embedders
from reembed.gateway.in_force import RoutingInForce
from reembed.gateway.queries import Queries

PROBE_EVERY = 5.0
_FIRST_PROBES_EVERY = 0.5
_TEXT = "Is this index able to answer?"


class Prober:
    """Probes the arms of the routing in force until it is cancelled."""

    def __init__(self, held: RoutingInForce, answering: Answering, queries: Queries, embedders: Embedders) -> None:
        self._held = held
        self._answering = answering
        self._queries = queries
        self._embedders = embedders
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether this gateway may get callers: it knows its routing, and what serves has answered it once.

        It stays ready when the serving arm fails later: taking all gateways out would turn answers that say what is
        wrong into refused connections. An index without a serving arm is ready too, and says so to whoever searches.
        """
        return self._ready

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self._round()
            # A pod that waits for its readiness looks more often.
            await asyncio.sleep(began + (PROBE_EVERY if self._ready else _FIRST_PROBES_EVERY) - loop.time())

    async def _round(self) -> None:
        routing = self._held.snapshot()
        arms = list(dict.fromkeys(arm for arm in (routing.serving, routing.candidate) if arm is not None))
        answered = await asyncio.gather(*(self._probe(arm) for arm in arms))
        works = {arm for arm, success in zip(arms, answered, strict=True) if success}
        self._ready |= self._held.known and (routing.serving is None or routing.serving in works)
        await self._embedders.keep(set(arms))

    async def _probe(self, arm: Arm) -> bool:
        return await self._answering.probe(arm, self._queries.search(_TEXT, 1))
