"""What a panel costs and how fast it decides: `python -m tests.bench.panel` prints one line of JSON.

Eight agent processes on a real API server; their judges approve at once, so that what is timed is the protocol: from
before a Decision is sent until a gateway would obey the raise. Then two agents at a time stand still until the panel
is whole again, and at last agents are killed at random while twenty migrations decide. `--parts` names what is measured
of `quiet`, `recovery` and `kills`; `--quick` takes a fifth of each.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import json
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from hack.cache import ROOT
from hack.console import run, say
from reembed.api.panel import membership_json, parse_panel
from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.core.quorum.certificates import Certified
from reembed.core.quorum.membership import Member, Membership, decoded
from reembed.core.quorum.proposals import Subject
from reembed.panel.keys import ANNOTATION_KEY
from reembed.panel.settings import ROLES, account
from tests.bench.fleet.process import load
from tests.bench.operator import apiserver, percentile
from tests.bench.panel.agents import NAMES, PANEL, Agents
from tests.bench.panel.proposer import Proposer
from tests.cluster import binary
from tests.fixtures.account import mounted

HERE, THERE = "bench-panel", "bench-shop"
PARTS = ("quiet", "recovery", "kills")
MIGRATIONS = 20
RATE = 5.0
_SPEC = {
    "store": {
        "ownerSecretRef": {"name": "store", "key": "owner"},
        "gatewaySecretRef": {"name": "store", "key": "gateway"},
        "gatewayRole": "reembed_gateway",
    },
    "source": {"table": "docs", "idColumn": "id", "textColumn": "body"},
}


@dataclass(frozen=True)
class Plan:
    parts: tuple[str, ...]
    idle_seconds: float = 30.0
    decisions: int = 300
    rounds: int = 2
    kills: int = 100
    kill_seconds: float = 0.5


@dataclass
class Bench:
    cluster: Cluster
    agents: Agents
    proposer: Proposer
    indexes: list[Subject]
    epochs: dict[str, int]

    async def decide(self, at: int, seconds: float = 30.0) -> float | None:
        """Put the next step of a migration to the vote, in an epoch of its own."""
        index = self.indexes[at]
        self.epochs[index.uid] = self.epochs.get(index.uid, 0) + 1
        return await self.proposer.decide(index, self.epochs[index.uid], seconds)

    async def beats(self) -> dict[str, str]:
        found = await self.cluster.list(kinds.LEASE, HERE)
        return {one["metadata"]["name"]: one["spec"]["renewTime"] for one in found}


async def quiet(bench: Bench, plan: Plan) -> dict[str, Any]:
    """Measure agents that have nothing to do, and then one decision after another."""
    await asyncio.sleep(10)
    cpu, began = bench.agents.cpu_seconds(), monotonic()
    await asyncio.sleep(plan.idle_seconds)
    share = 100 * (bench.agents.cpu_seconds() - cpu) / (monotonic() - began) / len(NAMES)
    for at in range(10):
        await bench.decide(at)
    took, cpu = [], bench.agents.cpu_seconds()
    for number in range(plan.decisions):
        due = monotonic() + 1 / RATE
        took.append(await bench.decide(number % MIGRATIONS))
        await asyncio.sleep(max(due - monotonic(), 0))
    cpu = bench.agents.cpu_seconds() - cpu
    certified = [one for one in took if one is not None]
    resident = bench.agents.resident_mebibytes()
    return {
        "certificate_p50_ms": round(percentile(certified, 50), 1),
        "certificate_p99_ms": round(percentile(certified, 99), 1),
        "uncertified": len(took) - len(certified),
        "decisions": len(took),
        "agent_idle_cpu_percent": round(share, 2),
        "agent_cpu_ms_per_vote": round(1000 * cpu / len(took) / len(NAMES), 2),
        "agent_rss_mib": round(max(resident), 1),
        "panel_rss_mib": round(sum(resident), 1),
    }


async def recovery(bench: Bench, plan: Plan) -> dict[str, Any]:
    """Have two agents at a time stand still, and time how long it takes until both beat again."""
    # A deletion is followed by another one after a minute at most, by agents that look for as long.
    took: list[float] = []
    for number in range(plan.rounds):
        await asyncio.sleep(random.uniform(0, 10))
        gone = [NAMES[(2 * number + at) % len(NAMES)] for at in (0, 7)]
        before = await bench.beats()
        began = monotonic()
        for name in gone:
            bench.agents.hang(name)
        left = set(gone)
        while left and monotonic() - began < 150:
            now = await bench.beats()
            for name in [one for one in left if now[account(one)] != before[account(one)]]:
                # One that was under way when the process stood still is none.
                if monotonic() - began > 1:
                    left.discard(name)
                    took.append(monotonic() - began)
                before[account(name)] = now[account(name)]
            await asyncio.sleep(0.2)
        took += [150.0] * len(left)
        say(f"{', '.join(gone)} were back after {took[-2:]} s")
    return {"recovery_p99_s": round(max(took), 1), "recovery_s": [round(one, 1) for one in took]}


async def kills(bench: Bench, plan: Plan) -> dict[str, Any]:
    """Kill agents at random while all migrations decide."""
    first, tries, longest = 0, 0, 0
    over = asyncio.Event()

    async def migration(at: int) -> None:
        nonlocal first, tries, longest
        rng = random.Random(at)
        while not over.is_set():
            epochs = 1
            while await bench.decide(at) is None:
                epochs += 1
            tries += 1
            first += epochs == 1
            longest = max(longest, epochs)
            await asyncio.sleep(rng.uniform(0.5, 1.5) * MIGRATIONS / 10)

    migrations = [asyncio.create_task(migration(at)) for at in range(MIGRATIONS)]
    rng, down = random.Random(7), dict[str, str]()
    for _ in range(plan.kills):
        # No more at a time than may be faulty; one is back once it beats.
        while True:
            now = await bench.beats()
            down = {name: before for name, before in down.items() if now[account(name)] == before}
            if len(down) < 2:
                break
            await asyncio.sleep(0.05)
        name = rng.choice([one for one in NAMES if one not in down])
        bench.agents.kill(name)
        down[name] = now[account(name)]
        await asyncio.sleep(plan.kill_seconds)
    over.set()
    async with asyncio.timeout(60):
        await asyncio.gather(*migrations)
    return {
        "first_epoch_percent": round(100 * first / max(tries, 1), 2),
        "decided_in_the_end": tries,
        "most_epochs": longest,
        "kills": plan.kills,
    }


async def key(cluster: Cluster, name: str) -> bytes:
    """Return the public key that an agent publishes."""
    for _ in range(300):
        found = await cluster.get(kinds.LEASE, HERE, account(name))
        text = ((found or {}).get("metadata", {}).get("annotations") or {}).get(ANNOTATION_KEY)
        if text and (raw := decoded(text)) is not None:
            return raw
        await asyncio.sleep(0.1)
    raise RuntimeError(f"agent {name} has published no key after half a minute")


async def office(cluster: Cluster) -> tuple[Certified, ...]:
    """Write the Panel with the keys that its agents publish, and return who is in office."""
    members = tuple([Member(name, ROLES[name], await key(cluster, name)) for name in NAMES])
    meta = {"namespace": HERE, "name": PANEL}
    body = {"metadata": meta, "spec": membership_json(Membership(1, 2, members))}
    await cluster.apply(kinds.PANEL, body, manager="bench")
    for _ in range(300):
        found = await cluster.get(kinds.PANEL, HERE, PANEL)
        if found is not None and (chain := parse_panel(found).chain):
            return chain
        await asyncio.sleep(0.1)
    raise RuntimeError("no members are in office after half a minute")


async def indexes(cluster: Cluster, anchor: str) -> list[Subject]:
    made = []
    for number in range(MIGRATIONS):
        ref = {"namespace": HERE, "name": PANEL, "digest": anchor}
        body = {"metadata": {"namespace": THERE, "name": f"docs-{number}"}, "spec": {**_SPEC, "panelRef": ref}}
        found = await cluster.create(kinds.INDEX, THERE, body, manager="bench")
        made.append(Subject(THERE, f"docs-{number}", found["metadata"]["uid"], f"m-{number}", f"uid-m-{number}"))
    return made


@asynccontextmanager
async def world(kubeconfig: Path, directory: Path, variables: dict[str, str]) -> AsyncIterator[Bench]:
    async with Cluster.connect(str(kubeconfig)) as cluster:
        agents = Agents(cluster, HERE, THERE, variables, directory / "account", directory)
        try:
            await agents.begin()
            chain = await office(cluster)
            proposer = Proposer(cluster, HERE, chain)
            watching = asyncio.create_task(proposer.watch())
            yield Bench(cluster, agents, proposer, await indexes(cluster, chain[0].membership.digest), {})
            watching.cancel()
        finally:
            await agents.end()


async def bench(plan: Plan, kubeconfig: Path, directory: Path, variables: dict[str, str]) -> dict[str, Any]:
    measures = {"quiet": quiet, "recovery": recovery, "kills": kills}
    found: dict[str, Any] = {}
    async with world(kubeconfig, directory, variables) as made:
        for part in plan.parts:
            say(f"{part} (load {load():.1f})")
            found |= await measures[part](made, plan)
            found[f"load_after_{part}"] = load()
            say(json.dumps(found))
    return found


def planned() -> Plan:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help="which of quiet, recovery and kills")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    parts = tuple(options.parts.split(","))
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return Plan(parts, 6.0, 60, 1, 20) if options.quick else Plan(parts)


def main() -> None:
    # As in its image: else each start would translate what was edited last.
    compileall.compile_dir(ROOT / "operator", quiet=1)
    plan, kube = planned(), binary.kubernetes()
    with tempfile.TemporaryDirectory(prefix="reembed-bench-") as name:
        directory = Path(name)
        with apiserver(kube, directory, None) as kubeconfig:
            for namespace in (HERE, THERE):
                run([kube, "kubectl", "--kubeconfig", kubeconfig, "create", "namespace", namespace])
            variables = mounted(kube, kubeconfig, HERE, directory / "account")
            found = asyncio.run(bench(plan, kubeconfig, directory, variables))
    kept = ROOT / "build" / "bench-panel.json"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(found) + "\n")
    print(json.dumps(found))  # noqa: T201 - figures are what this program is for


if __name__ == "__main__":
    main()
