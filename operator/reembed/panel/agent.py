"""One agent of a panel: its parts, and how they begin and end. Run by `__main__`, and by tests with other judges."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

from reembed import signing
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError
from reembed.core.quorum.watch import DEAD
from reembed.panel.coordinator import Coordinator
from reembed.panel.garbage import Garbage
from reembed.panel.heartbeats import Heartbeats
from reembed.panel.keys import BrokenSecret, KeyStore
from reembed.panel.liars import Liars
from reembed.panel.metrics import Metrics, served
from reembed.panel.office import Office
from reembed.panel.seat import Seat, wall_clock
from reembed.panel.settings import Settings
from reembed.panel.voting import Judge, Voter
from reembed.panel.wishing import Wisher

# How long a process that was told to end still finishes the votes it has begun.
DRAIN_SECONDS = 10.0
_AGAIN = 1.0
# The own Secret is read again so often: a person may ask for another key.
_KEY_SECONDS = 60.0

# Opens the agent's judge, given what this agent alone knows.
Judging = Callable[[bytes], AbstractAsyncContextManager[Judge]]

_LOGGER = logging.getLogger("reembed.panel")


class Agent:
    """Everything that one agent does. `duties` is what role-specific work asks: `mine(role)`."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        judging: Judging,
        metrics: Metrics,
        clock: Callable[[], datetime] = wall_clock,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._metrics = metrics
        self._judging = judging
        self.keys = KeyStore(cluster, settings.namespace, settings.account, settings.agent)
        self.office = Office(settings.agent, lambda: self.keys.kept, signing.verify)
        self.duties = Heartbeats(cluster, settings, lambda: self.keys.kept, self.office, metrics)
        self.duties.clock = clock
        seat = Seat(cluster, settings, self.office, self.duties, metrics, self.keys, clock)
        self._voter = Voter(seat)
        self._coordinator = Coordinator(seat)
        self._garbage = Garbage(seat)
        self._wisher = Wisher(seat)
        self._liars = Liars(seat)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish the votes that were begun; never without a key of its own.

        Raises:
            BrokenSecret: the agent's Secret holds no key.

        """
        work = asyncio.create_task(self._work(), name="work")
        ends = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({work, ends}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await self._voter.finish(DRAIN_SECONDS)
        finally:
            ends.cancel()
            work.cancel()
            await asyncio.gather(ends, work, return_exceptions=True)
        if not work.cancelled():
            work.result()

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the agent is ready, and what it says about that."""
        beaten = self.duties.beaten
        beats = beaten is not None and asyncio.get_running_loop().time() - beaten < DEAD
        active, kept = self.office.active, self.keys.kept
        said = {
            "key": kept is not None,
            "heartbeat": beats,
            "panel": self.office.panel is not None,
            "membership": active.version if active is not None else 0,
            "member": kept is not None
            and active is not None
            and kept.signing(active, self._settings.agent) is not None,
            "watching": self._voter.watching,
        }
        return kept is not None and beats, said

    async def _work(self) -> None:
        kept = await self.keys.open()
        async with self._judging(kept.seed) as judge, asyncio.TaskGroup() as tasks:
            for name, run in (
                ("beat", self.duties.beat_for_ever),
                ("look", self.duties.look_for_ever),
                ("panel", self._watch_panel),
                ("keys", self._look_after_keys),
                ("judge", lambda: self._run_judge(judge)),
                ("vote", lambda: self._voter.run(judge)),
                ("coordinate", self._coordinator.run),
                ("garbage", self._garbage.run),
                ("wish", lambda: self._wisher.run(judge)),
                ("liars", self._liars.run),
            ):
                tasks.create_task(run(), name=name)

    async def _watch_panel(self) -> None:
        here, name = self._settings.namespace, self._settings.panel
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                self.office.see(await self._cluster.get(kinds.PANEL, here, name))
                async for event, raw in self._cluster.watch(kinds.PANEL, here, name=name):
                    before = self.office.active
                    self.office.see(None if event == "DELETED" else raw)
                    if self.office.active != before:
                        await self._believe()
            except (ClusterError, OSError, TimeoutError, ValueError, KeyError) as error:
                text = "the watch of Panel %s/%s ended: %s; it is begun again"
                _LOGGER.warning(text, here, name, str(error) or type(error).__name__)
            if loop.time() - began < _AGAIN:
                await asyncio.sleep(_AGAIN)

    async def _look_after_keys(self) -> None:
        while True:
            try:
                await self.keys.look()
                await self._believe()
            except ClusterError as error:
                _LOGGER.warning("Secret %s was not read: %s; tried again", self._settings.account, error)
            except BrokenSecret as error:
                _LOGGER.error("%s; the key read before is used on", error)
            await asyncio.sleep(_KEY_SECONDS)

    async def _believe(self) -> None:
        """Note in the own Secret who is in office; without an answer, the next look at it does."""
        active = self.office.active
        if active is None:
            return
        try:
            await self.keys.believe(self.office.anchor, active)
        except ClusterError as error:
            _LOGGER.info("who is in office was not noted yet: %s", error)

    async def _run_judge(self, judge: Judge) -> None:
        """Keep the judge's evidence warm; an agent whose judge failed refuses what was not measured."""
        while True:
            try:
                await judge.run()
            except Exception as error:
                _LOGGER.error("the judge ended: %r; begun again", error, exc_info=error)
            await asyncio.sleep(_AGAIN)


async def run(cluster: Cluster, settings: Settings, judging: Judging, metrics: Metrics, stop: asyncio.Event) -> None:
    """Run one agent with its HTTP server until `stop` is set."""
    agent = Agent(cluster, settings, judging, metrics)
    async with served(agent.report, metrics, settings.port):
        await agent.run(stop)
