"""One world around one operator: API server, pods, store, gateways and network, and the list of what happened.

Everything that happens is told to whoever listens (`listeners`): the invariants look at the world after each of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reembed.cluster import kinds
from reembed.cluster.kinds import Kind
from reembed.controller import classes
from reembed.controller.scrape import Sample
from reembed.core import names
from tests.builders import NOON
from tests.sim.accepted import Rows
from tests.sim.api_server import ApiServer, Change, Object
from tests.sim.chamber import Chamber, is_quiet
from tests.sim.chances import Chances
from tests.sim.embedders import Embedders
from tests.sim.gateways import Gateway, Gateways
from tests.sim.hooks import CRON_JOB, Hooks, is_hook
from tests.sim.kubelet import Kubelet, Pod
from tests.sim.line import Watches, Weather
from tests.sim.manifests import OLD_COLLECTION, served
from tests.sim.prometheus import Values
from tests.sim.store import INDEX, Collection, Worker

# A pod that does not answer is given up after this long.
_SILENCE = 1.5
_ANSWER = 0.02


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; `change` where it was a write to the API server."""

    at: float
    what: str
    name: str = ""
    change: Change | None = None

    def __str__(self) -> str:
        told = f"{self.at:8.2f}  {self.what} {self.name}"
        if self.change is None or self.change.after is None:
            return told
        return f"{told} by {self.change.by} {_gist(self.change)}"


class World:
    """Everything but the operator."""

    def __init__(self, seed: int | str) -> None:
        self.chances = Chances(seed)
        self.weather = Weather()
        self.server = ApiServer(self.clock)
        self.kubelet = Kubelet(self.server, self.chances)
        self.worker = Worker(self.server, self.kubelet, self.chances)
        self.prometheus = Values()
        self.gateways = Gateways(self.server, self.kubelet, self.weather, self.chances)
        self.embedders = Embedders(self.kubelet, self.routing, self.now)
        self.hooks = Hooks()
        self.chamber = Chamber(self, self.weather)
        self.watches = Watches(self.server, self.weather, self.chances)
        self.listeners: list[Callable[[Event], None]] = []
        self.log: deque[Event] = deque(maxlen=150)
        self.writes = 0  # requests of the operator that would change something
        self.writer = ""  # whose write landed last: a process and its term
        self.protected = 0
        self._join()

    def _join(self) -> None:
        self.kubelet.came, self.kubelet.went = self._came, self._went
        self.kubelet.work = self._work
        self.kubelet.evicted = lambda pod: self.happen("evicted", pod.name)
        self.embedders.filled = self._filled
        self.hooks.happened = lambda call: self.happen("hook is called", f"{call.key} by {call.job}")
        self.worker.happened = self.happen
        self.gateways.happened = lambda gateway: self.happen("gateway follows", gateway.pod.name)
        self.server.listeners.append(self._written)

    def serve(self) -> None:
        """Have pool `old` serve the index, as after a first fill."""
        routing, plan = served()
        print_ = plan["pointer"]["fingerprint"]
        self.worker.store.collections[OLD_COLLECTION] = Collection(OLD_COLLECTION, print_, 384, 4, "Indexed", 4)
        self.worker.store.pointer = plan["pointer"]
        self.server.apply(kinds.INDEX, {"metadata": {"name": INDEX}, "status": {"routing": routing, "plan": plan}},
                          "reembed-migrations", "status")  # fmt: skip

    def sit(self, minds: Mapping[str, str]) -> None:
        """Have a panel vote, and gateways ask for its certificates."""
        rows = Rows(lambda: self.worker.problem is not None, lambda: self.worker.store.pointer)
        self.gateways.ask_for_certificates(rows, self.clock)
        self.chamber.sit(minds)

    def _work(self, job: Object) -> bool | None:
        if job["metadata"]["labels"][names.LABEL_COMPONENT] == "inspect":
            return self.worker.inspect(job)
        return self.hooks.work(job) if is_hook(job) else self.worker.fill(job)

    @property
    def hooked_by_cron_job(self) -> bool:
        """Return whether the CronJob is there that Job hooks name."""
        return self.server.get(kinds.CRON_JOB, CRON_JOB) is not None

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def clock(self) -> datetime:
        return NOON + timedelta(seconds=self.now())

    def note(self, what: str, name: str) -> None:
        """Log what changes nothing of the world by itself."""
        self.log.append(Event(self.now(), what, name))

    def happen(self, what: str, name: str = "", change: Change | None = None) -> None:
        self.embedders.count()
        event = Event(self.now(), what, name, change)
        self.log.append(event)
        for listener in self.listeners:
            listener(event)

    def wrote(self, who: str, kind: Kind, name: str) -> None:
        """Note that an operator sends a write; a Lease is renewed for ever."""
        if kind != kinds.LEASE:
            self.writes += 1
            self.note("write", f"{kind.name}/{name} by {who}")

    def landed(self, who: str, kind: Kind, name: str) -> None:
        """Note that a write of an operator has arrived and is carried out."""
        if kind != kinds.LEASE and who != self.writer:
            self.writer = who
            self.happen("writes from now on:", who)

    def index(self) -> Object | None:
        return self.server.get(kinds.INDEX, INDEX)

    def routing(self) -> Object:
        """Return the routing that the API server holds."""
        index = self.index()
        found: Object = (index or {}).get("status", {}).get("routing") or {}
        return found

    def migrations(self) -> list[Object]:
        return self.server.all(kinds.MIGRATION)

    async def json(self, addresses: Mapping[str, str], path: str) -> dict[str, Any]:
        reached = await self._reached(addresses)
        if path == "/status":
            answer = self.worker.answer()
            return dict.fromkeys(reached, answer) if answer is not None else {}
        if path == classes.PATH:
            return {name: said for name in reached if (said := self._class(name)) is not None}
        now = self.now()
        return {name: self.gateways.live[name].answer(now) for name in reached if name in self.gateways.live}

    def _class(self, name: str) -> Object | None:
        """Return what a pod says of its class, None if it is no embedder that has been ready."""
        pod = self.kubelet.pods.get(name)
        found = self.server.get(kinds.DEPLOYMENT, pod.deployment) if pod is not None else None
        if pod is None or found is None or pod.component != "embedder" or not pod.ready:
            return None
        return self.embedders.said_of_class(found)

    async def metrics(self, addresses: Mapping[str, str]) -> dict[str, list[Sample]]:
        pods = self.kubelet.pods
        reached = [
            name
            for name in await self._reached(addresses)
            if name not in pods or not self.embedders.is_silent(pods[name])
        ]
        self.gateways.count()
        return {name: self._samples(self.kubelet.pods[name]) for name in reached if name in self.kubelet.pods}

    async def put(self, addresses: Mapping[str, str], path: str, body: Mapping[str, Any]) -> tuple[str, ...]:
        self.protected += 1
        return tuple(await self._reached(addresses))

    def _samples(self, pod: Pod) -> list[Sample]:
        if pod.name in self.gateways.live:
            return self.gateways.live[pod.name].samples()
        if pod.component != "embedder" or not pod.ready:
            return []
        if self.embedders.on:
            return self.embedders.samples(pod)
        memory = self.gateways.health(pod.labels["reembed.dev/pool"]).memory
        return [("reembed_memory_used_bytes", {}, memory * 400), ("reembed_memory_limit_bytes", {}, 400.0)]

    async def _reached(self, addresses: Mapping[str, str]) -> list[str]:
        """Return the pods that answer, after as long as the slowest of them takes."""
        if not addresses:
            return []
        reached = [name for name in addresses if self._answers(name)]
        await asyncio.sleep(_ANSWER if len(reached) == len(addresses) else _SILENCE)
        return [name for name in reached if self._answers(name)]

    def _answers(self, name: str) -> bool:
        pod, gateway = self.kubelet.pods.get(name), self.gateways.live.get(name)
        if pod is None or (pod.component == "worker" and self.worker.silent):
            return False
        return not (gateway is not None and gateway.silent)

    def _came(self, pod: Pod) -> None:
        self.gateways.count()
        self.gateways.came(pod)
        self.happen("pod came", pod.name)

    def _filled(self, pod: Pod) -> None:
        """Have a pod whose memory is full be killed."""
        self.happen("memory is full", pod.name)
        self.kubelet.restart(pod, out_of_memory=True)

    def _went(self, pod: Pod) -> None:
        self.gateways.count()
        self.embedders.went(pod)
        self.gateways.went(pod)
        self.happen("pod went", pod.name)

    def _written(self, change: Change) -> None:
        if is_quiet(change):
            return
        self.happen("changed" if change.after is not None else "gone", f"{change.kind.name}/{change.name}", change)

    def gateway(self, name: str) -> Gateway | None:
        return self.gateways.live.get(name)


def _gist(change: Change) -> str:
    """Return what of a write is worth to be read in a log."""
    after = change.after or {}
    status = after.get("status") or {}
    if change.kind == kinds.MIGRATION:
        said = (status.get("at"), status.get("reason"), status.get("waitingFor", ""), status.get("message", "")[:90])
        return " ".join(str(one) for one in said if one)
    if change.kind == kinds.INDEX:
        routing, holder = status.get("routing") or {}, status.get("activeMigration") or {}
        sides = [(routing.get(side) or {}).get("collection") for side in ("serving", "candidate")]
        plans = {one["name"]: one["desired"] for one in (status.get("plan") or {}).get("collections") or ()}
        held, pointer = holder.get("name"), ((status.get("plan") or {}).get("pointer") or {}).get("collection")
        return f"epoch {routing.get('epoch')} {sides} at {routing.get('weight')} % held by {held}; {pointer}; {plans}"
    if change.kind == kinds.DEPLOYMENT:
        return f"{after['spec']['replicas']} replicas, {status.get('readyReplicas', 0)} ready"
    return ""
