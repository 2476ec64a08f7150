"""The gateways of the index: what each believes of the routing, and the queries that it counts.

What a gateway believes is decided by the real `gateway.lease`, and where a panel votes by the real `gateway.accepting`
over the row of `accepted`; here are only its readings, its watch, and a clock of queries: between two moments at which
anything changes, so many queries went to each arm, and so many of them failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from reembed.api import parse_index
from reembed.cluster import kinds
from reembed.controller.scrape import Sample
from reembed.core.measures import PROCESS
from reembed.core.model import Arm, Routing
from reembed.core.names import ANNOTATION_FORCE_STABLE
from reembed.gateway.accepting import Accepting, Judging
from reembed.gateway.in_force import RoutingInForce
from reembed.gateway.lease import READ_EVERY, Lease, Reading, changed, effective, renewed
from tests.sim.accepted import Rows
from tests.sim.api_server import ApiServer, Change, Object
from tests.sim.callers import Callers, Compared, Counted, Health
from tests.sim.chamber import verify
from tests.sim.chances import Chances
from tests.sim.kubelet import Kubelet, Pod
from tests.sim.line import Weather
from tests.sim.store import INDEX
from tests.sim.virtual_time import WORLD

# By how much a gateway's wall clock is off, in seconds; two clocks may differ by half a minute.
_OFF = 10.0
_PROBES_PER_SECOND = 1.0


class Gateway:
    """One gateway process."""

    def __init__(self, pod: Pod, now: float, callers: Callers) -> None:
        self.pod = pod
        self.lease = Lease()
        self.silent = False  # nobody reaches it from the operator
        self.apart = False  # it does not reach the API server
        self.dead = False
        self._began = self._since = now
        self.accepting: Accepting | None = None  # where a panel votes
        self.tasks: set[asyncio.Task[None]] = set()
        self.begun = False  # it gets callers once what serves has answered it
        self._counted: dict[tuple[str, str], Counted] = {}
        self._compared: dict[str, Compared] = {}
        self._callers = callers

    def routing(self, now: float) -> Routing:
        return effective(self.lease, now)

    def answer(self, now: float) -> Object:
        routing = self.routing(now)
        refused = self.lease.acceptance.refused
        return {
            "epoch": routing.epoch,
            "weight": routing.weight,
            "serving": _arm(routing.serving),
            "candidate": _arm(routing.candidate),
            **({"refused": asdict(refused)} if refused is not None else {}),
        }

    def samples(self) -> list[Sample]:
        found: list[Sample] = [(PROCESS, {}, self._began)]
        found += [one for (name, probe), counted in self._counted.items() for one in counted.samples(name, probe)]
        found += [one for name, compared in self._compared.items() for one in compared.samples(name)]
        return found

    def count(self, now: float, health: Callable[[str], Health]) -> None:
        """Count the queries since the last time."""
        seconds, routing = now - self._since, self.routing(self._since)
        self._since = now
        self.begun |= routing.serving is not None and health(routing.serving.pool).errors == 0
        if seconds <= 0 or not self.begun:
            return
        for arm, share in ((routing.serving, 100 - routing.weight), (routing.candidate, routing.weight)):
            if arm is None:
                continue
            found = health(arm.pool)
            if share:
                queries = seconds * self._callers.per_second * share / 100
                self._of(arm, "false").add(queries, found)
                self._callers.of(arm.collection).answered += queries
            self._of(arm, "true").add(seconds * _PROBES_PER_SECOND, found)
        if routing.shadow:
            self._compare(seconds * self._callers.per_second * routing.shadow, routing, health)

    def _compare(self, queries: float, routing: Routing, health: Callable[[str], Health]) -> None:
        """Put queries to both sides; what one of them does not answer is compared with nothing."""
        if routing.serving is None or routing.candidate is None:
            return
        ours, theirs = health(routing.candidate.pool), health(routing.serving.pool)
        name = routing.candidate.collection
        found = self._compared.setdefault(name, Compared())
        self._callers.of(name).compared += found.add(queries * (1 - ours.errors) * (1 - theirs.errors), ours.overlap)

    def _of(self, arm: Arm, probe: str) -> Counted:
        return self._counted.setdefault((arm.collection, probe), Counted())


class Gateways:
    """All gateway processes of the index."""

    def __init__(self, server: ApiServer, kubelet: Kubelet, weather: Weather, chances: Chances) -> None:
        self._server = server
        self._kubelet = kubelet
        self._weather = weather
        self._chances = chances
        self._health: dict[str, Health] = {}
        self._parsed: tuple[Object | None, Reading | None] = (None, None)
        self._clock: Callable[[], datetime] | None = None
        self._rows: Rows | None = None
        self.live: dict[str, Gateway] = {}
        self.callers = Callers()
        self.happened: Callable[[Gateway], None] = lambda gateway: None
        server.listeners.append(self._changed)

    def ask_for_certificates(self, rows: Rows, clock: Callable[[], datetime]) -> None:
        """Have every gateway that comes from now on keep what it accepts in these rows."""
        self._rows, self._clock = rows, clock

    def came(self, pod: Pod) -> None:
        if pod.component == "gateway" and pod.name not in self.live:
            self.live[pod.name] = gateway = Gateway(pod, _now(), self.callers)
            self._begin_accepting(gateway)
            self._read(gateway)

    def _begin_accepting(self, gateway: Gateway) -> None:
        rows, clock = self._rows, self._clock
        if rows is None or clock is None:
            return
        chance = self._chances.of("accepting", gateway.pod.name)
        off = timedelta(seconds=chance.uniform(-_OFF, _OFF))
        meter: Any = _Unmetered()
        judging = Judging(verify, lambda: clock() + off, _at_once)
        held = _InForce(lambda lease: self._hold(gateway, lease))
        gateway.accepting = Accepting(held, rows.seen_by(chance), meter, judging)
        _begin(gateway, gateway.accepting.run())

    def went(self, pod: Pod) -> None:
        gateway = self.live.pop(pod.name, None)
        if gateway is not None:
            gateway.dead = True
            for task in gateway.tasks:
                task.cancel()
            self.happened(gateway)

    def count(self) -> None:
        """Have every gateway count up to now: something that queries feel is about to change."""
        now = _now()
        for gateway in self.live.values():
            gateway.count(now, self.health)

    def health(self, pool: str) -> Health:
        found = self._health.setdefault(pool, Health())
        return found if self._kubelet.ready(pool) else Health(errors=1.0, memory=found.memory)

    def change(self, pool: str, **fields: float) -> None:
        """Have a pool's model answer otherwise from now on."""
        self.count()
        found = self._health.setdefault(pool, Health())
        for name, value in fields.items():
            setattr(found, name, value)

    def ask(self, per_second: float) -> None:
        """Have callers ask every gateway so often from now on."""
        self.count()
        self.callers.per_second = per_second

    def _read(self, gateway: Gateway) -> None:
        """Ask for the index; the answer comes a moment later."""
        if gateway.dead:
            return
        loop = asyncio.get_running_loop()
        if not (gateway.apart or self._weather.down):
            raw = self._server.get(kinds.INDEX, INDEX)
            loop.call_later(self._lag(gateway), self._renew, gateway, raw, loop.time())
        loop.call_later(READ_EVERY, self._read, gateway)

    def _renew(self, gateway: Gateway, raw: Object | None, asked: float) -> None:
        if gateway.accepting is not None and not gateway.dead:
            _begin(gateway, gateway.accepting.renew(self._reading(raw), asked))
        else:
            self._hold(gateway, renewed(gateway.lease, self._reading(raw), asked))

    def _changed(self, change: Change) -> None:
        if change.kind != kinds.INDEX or change.name != INDEX:
            return
        for gateway in self.live.values():
            if not (gateway.apart or self._weather.down):
                asyncio.get_running_loop().call_later(self._lag(gateway), self._tell, gateway, change.after)

    def _tell(self, gateway: Gateway, raw: Object | None) -> None:
        if gateway.accepting is not None and not gateway.dead:
            _begin(gateway, gateway.accepting.change(self._reading(raw)))
        else:
            self._hold(gateway, changed(gateway.lease, self._reading(raw)))

    def _hold(self, gateway: Gateway, lease: Lease) -> None:
        if gateway.dead:
            return
        before, now = gateway.routing(_now()), _now()
        gateway.count(now, self.health)
        gateway.lease = lease
        if gateway.routing(now) != before:
            self.happened(gateway)

    def _reading(self, raw: Object | None) -> Reading | None:
        """Return what the index says; many gateways read the same one."""
        if raw is not None and self._parsed[0] is not raw:
            meta, spec, status = parse_index(raw)
            forced = (raw["metadata"].get("annotations") or {}).get(ANNOTATION_FORCE_STABLE, "false") != "false"
            self._parsed = (raw, Reading(meta.uid, status.routing, forced, spec.panel))
        return self._parsed[1] if raw is not None else None

    def _lag(self, gateway: Gateway) -> float:
        chance: Any = self._chances.of("gateway", gateway.pod.name)
        return float(chance.uniform(0.01, 0.4))


class _InForce(RoutingInForce):
    """Tells of every routing that it holds."""

    def __init__(self, told: Callable[[Lease], None]) -> None:
        super().__init__()
        self._told = told

    def hold(self, lease: Lease) -> None:
        super().hold(lease)
        self._told(lease)


class _Unmetered:
    """Nobody looks at these gateways' metrics of refusals: what they refuse is in their answers."""

    def certificate_refused(self, reason: str) -> None:
        return


async def _at_once(work: Callable[[], Lease]) -> Lease:
    return work()


def _begin(gateway: Gateway, work: Coroutine[Any, Any, None]) -> None:
    """Run a piece of a gateway's work until it is done or the gateway is gone."""
    task = asyncio.get_running_loop().create_task(work, context=WORLD)
    gateway.tasks.add(task)
    task.add_done_callback(gateway.tasks.discard, context=WORLD)


def _arm(arm: Arm | None) -> dict[str, str] | None:
    return None if arm is None else {"pool": arm.pool, "collection": arm.collection, "fingerprint": arm.fingerprint}


def _now() -> float:
    return asyncio.get_running_loop().time()
