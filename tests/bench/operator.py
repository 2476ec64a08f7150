"""What the operator costs with 1,100 migrations: `python -m tests.bench.operator` prints one line of JSON.

A real API server, an operator in a process of its own, and one process that answers for all pods. First every migration
has ended, eleven on each of a hundred indexes; then a hundred hold a step of their canary, and the operator looks at
each every two seconds. Decisions are timed from the API server's answer to a change until a watch has the status that
follows from it. BENCH_MINUTES is how long memory is watched (10); `--quick` takes a tenth of the fleet and a minute;
`--indexes 1100` gives each migration an index of its own; `--fleet DIR` makes the fleet and keeps its etcd there, and
measures from the second time on; `--trace` adds where the time of a decision goes, at some cost.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import gc
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from hack.cache import ROOT
from hack.console import run, say, works
from reembed.cluster.client import Cluster
from tests.bench.fleet import making
from tests.bench.fleet.changes import Change, Changes
from tests.bench.fleet.kubelet import Kubelet
from tests.bench.fleet.process import Operator, load
from tests.bench.fleet.shape import Fleet
from tests.bench.fleet.steps import split
from tests.bench.fleet.writes import writes
from tests.cluster import binary, control_plane, processes
from tests.fixtures.account import mounted

RATE = 20.0
# While memory is watched: what leaks does so by changes.
SLOW_RATE = 2.0
# An odd number leaves every active migration paused, which is not what is measured after.
RESTARTS = 4
ROUNDS = 2


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    fleet: Fleet
    idle_seconds: float
    change_seconds: float
    slope_seconds: float
    kept: Path | None
    trace: bool


@dataclass
class Bench:
    """The parts that run, and what was found so far."""

    plan: Plan
    kube: Path
    kubeconfig: Path
    cluster: Cluster
    operator: Operator
    pods: subprocess.Popen[str]
    details: dict[str, Any] = field(default_factory=dict)

    def writes(self) -> int:
        """Return how many writes to the fleet's kinds the API server has answered."""
        raw = run([self.kube, "kubectl", "--kubeconfig", self.kubeconfig, "get", "--raw", "/metrics"])
        return writes(raw)

    async def first_passes(self) -> float:
        """Return the time at which the operator has done as many passes of migrations as there are migrations."""
        for _ in range(1200):
            if self.operator.passes().get("EmbeddingMigration", (0, 0.0))[0] >= len(self.plan.fleet.migrations):
                return monotonic()
            await asyncio.sleep(0.1)
        raise RuntimeError("migrations are left without a pass two minutes after a restart")

    async def started(self) -> None:
        """Start the operator and what stands in for kubelets; return once neither has anything left to write."""
        kubelet = asyncio.create_task(Kubelet(self.cluster).run())
        self.operator.start()
        settled = asyncio.create_task(self._settled_after_all())
        done, left = await asyncio.wait({kubelet, settled}, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        for task in done:
            task.result()

    async def _settled_after_all(self) -> None:
        await self.first_passes()
        await self.settled()

    async def settled(self, *, seconds: float = 300) -> None:
        end, before = monotonic() + seconds, -1
        while monotonic() < end:
            now = await asyncio.to_thread(self.writes)
            undone = await making.undone(self.cluster)
            say(f"{now} writes; {len(undone)} objects left")
            if now == before and not undone:
                return
            before = now
            await asyncio.sleep(4)
        raise RuntimeError(f"still not settled after {seconds:.0f} s: {undone[:5]}")


async def bring_up(bench: Bench) -> None:
    """Have the operator make everything, or find it in a fleet that was kept."""
    made = bench.plan.kept is not None and (bench.plan.kept / "etcd").exists()
    began = monotonic()
    if not made:
        say(f"making {len(bench.plan.fleet.members)} indexes with their pools and migrations")
        await making.make(bench.cluster, bench.plan.fleet)
        say(f"made in {monotonic() - began:.0f} s")
    await bench.started()
    bench.details["bring_up_s"] = round(monotonic() - bench.operator.began, 1)
    bench.details["bring_up_rss_mib"] = round(bench.operator.resident_mebibytes(), 1)


async def quiet(bench: Bench, name: str) -> dict[str, float]:
    """Measure what the operator costs while nothing changes."""
    say(f"{name}: nothing changes for {bench.plan.idle_seconds:.0f} s (load {load():.1f})")
    seconds = bench.plan.idle_seconds
    passes, written, cpu = bench.operator.passes(), bench.writes(), bench.operator.cpu_seconds()
    began = monotonic()
    await asyncio.sleep(seconds)
    cpu = bench.operator.cpu_seconds() - cpu
    took = monotonic() - began
    now = bench.operator.passes()
    found = {
        "cpu_percent": round(100 * cpu / took, 2),
        "writes_per_min": round(60 * (bench.writes() - written) / took, 1),
        "rss_mib": round(bench.operator.resident_mebibytes(), 1),
        "load": load(),
    }
    for kind, (count, spent) in now.items():
        before = passes.get(kind, (0, 0.0))
        found[f"{kind}_passes_per_s"] = round((count - before[0]) / took, 1)
        found[f"{kind}_pass_ms"] = round(1000 * (spent - before[1]) / max(count - before[0], 1), 1)
    say(f"{name}: {found}")
    bench.details[name] = found
    return found


async def set_out(bench: Bench) -> None:
    """Have the active members hold a step of their canary."""
    bench.operator.stop()
    say(f"{bench.plan.fleet.active} migrations set out")
    await making.set_out(bench.cluster, bench.plan.fleet)
    if bench.pods.stdin is not None:
        bench.pods.stdin.write("moving\n")
        bench.pods.stdin.flush()
    await bench.started()


async def restarts(bench: Bench, changes: Changes) -> list[float]:
    """Change every active migration while no operator runs, and time how long a new one takes to decide them all."""
    took, all_passes = [], []
    for number in range(RESTARTS):
        bench.operator.stop(signal.SIGKILL if number % 2 else signal.SIGTERM)
        await changes.toggle_all()
        bench.operator.start()
        await changes.decided()
        took.append(round(monotonic() - bench.operator.began, 2))
        all_passes.append(round(await bench.first_passes() - bench.operator.began, 2))
        say(f"restart: all decided after {took[-1]} s, all passed after {all_passes[-1]} s (load {load():.1f})")
        await bench.settled()
    bench.details["restarts"] = {"decided_s": took, "first_pass_of_all_s": all_passes, "load": load()}
    return took


async def decisions(bench: Bench, changes: Changes) -> list[Change]:
    """Make RATE changes a second, more than once, and return those of the best round by its p99."""
    rounds: list[list[Change]] = []
    for _ in range(ROUNDS):
        cpu, began = bench.operator.cpu_seconds(), monotonic()
        rounds.append(await changes.run(bench.plan.change_seconds, RATE))
        found = told(rounds[-1])
        found["cpu_percent"] = round(100 * (bench.operator.cpu_seconds() - cpu) / (monotonic() - began), 1)
        found["load"] = load()
        say(f"decisions: {found}")
        bench.details.setdefault("decisions", []).append(found)
    return min(rounds, key=lambda one: percentile([change.milliseconds for change in one], 99))


def told(made: list[Change]) -> dict[str, Any]:
    took = [change.milliseconds for change in made]
    decided = [change for change in made if change.seen is not None]
    found: dict[str, Any] = {
        "changes": len(made),
        "undecided": len(made) - len(decided),
        "p50_ms": round(percentile(took, 50), 1),
        "p99_ms": round(percentile(took, 99), 1),
        "max_ms": round(max(took), 1),
        "request_p50_ms": round(percentile([(one.answered - one.sent) * 1000 for one in made], 50), 1),
    }
    for kind in sorted({change.kind for change in made}):
        of_kind = [change.milliseconds for change in made if change.kind == kind]
        found[kind] = [round(percentile(of_kind, share), 1) for share in (50, 99)]
    return found


def percentile(values: list[float], share: int) -> float:
    return sorted(values)[min(len(values) * share // 100, len(values) - 1)]


async def slope(bench: Bench, changes: Changes) -> float:
    """Return how fast memory grows, in MiB an hour, while a few changes go on."""
    seconds = bench.plan.slope_seconds
    say(f"memory is watched for {seconds:.0f} s")
    going = asyncio.create_task(changes.run(seconds, SLOW_RATE))
    points: list[tuple[float, float]] = []
    began = monotonic()
    while not going.done():
        points.append(((monotonic() - began) / 3600, bench.operator.resident_mebibytes()))
        await asyncio.wait({going}, timeout=5)
    hours, resident = zip(*points, strict=True)
    bench.details["memory"] = {
        "minutes": round(seconds / 60, 1),
        "first_mib": round(resident[0], 1),
        "last_mib": round(resident[-1], 1),
        "largest_mib": round(max(resident), 1),
        "slow_changes": told(await going),
        "load": load(),
    }
    return statistics.linear_regression(hours, resident).slope


async def measure(bench: Bench) -> dict[str, Any]:
    await bring_up(bench)
    if bench.plan.kept is not None and not (bench.plan.kept / "etcd").exists():
        return {"kept": str(bench.plan.kept), "details": bench.details}
    idle = await quiet(bench, "idle")
    await set_out(bench)
    changes = Changes(bench.cluster, bench.plan.fleet.active)
    watching = asyncio.create_task(changes.watch())
    await changes.watching.wait()
    took = await restarts(bench, changes)
    await quiet(bench, "active")
    gc.collect()
    gc.freeze()
    made = await decisions(bench, changes)
    growth = await slope(bench, changes)
    watching.cancel()
    if bench.operator.trace is not None:
        bench.operator.stop()
        bench.details["steps_ms"] = split(bench.operator.trace, made)
    latencies = [change.milliseconds for change in made]
    return {
        "decision_p50_ms": round(percentile(latencies, 50), 1),
        "decision_p99_ms": round(percentile(latencies, 99), 1),
        "operator_rss_mib": bench.details["memory"]["last_mib"],
        "operator_rss_slope_mib_per_h": round(growth, 1),
        "idle_writes_per_min": idle["writes_per_min"],
        "idle_cpu_percent": idle["cpu_percent"],
        "restart_s": statistics.median(took),
        "details": bench.details,
    }


@contextmanager
def pods(port: int, active: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.bench.fleet.pods", str(port), str(active)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError("the pods' server did not start")
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def apiserver(kube: Path, directory: Path, kept: Path | None) -> Iterator[Path]:
    """Start an API server with our CRDs, on the etcd of an earlier run if there is one, and keep that for the next."""
    if kept is not None and (kept / "etcd").exists():
        shutil.copytree(kept / "etcd", directory / "etcd")
    running = control_plane.start(kube, directory, control_plane.Options())
    kubectl: list[str | Path] = [kube, "kubectl", "--kubeconfig", running.kubeconfig]
    try:
        run([*kubectl, "apply", "--server-side", "-f", ROOT / "crds"])
        run([*kubectl, "wait", "--for=condition=Established", "--timeout=30s", "-f", ROOT / "crds"])
        listed = [*kubectl, "get", "--all-namespaces", "embedderpools,embeddingindexes,embeddingmigrations,pods"]
        # With a kept etcd, the API server's own caches take a while to fill.
        processes.wait_until(lambda: works(listed), running.programs[0], seconds=60)
        yield running.kubeconfig
    finally:
        control_plane.stop(running.programs)
    if kept is not None and not (kept / "etcd").exists():
        shutil.copytree(directory / "etcd", kept / "etcd")


async def bench(plan: Plan, directory: Path) -> dict[str, Any]:
    # As in its image: else each start would translate what was edited last.
    compileall.compile_dir(ROOT / "operator", quiet=1)
    kube, port = binary.kubernetes(), processes.free_port()
    with apiserver(kube, directory, plan.kept) as kubeconfig, pods(port, plan.fleet.active) as answering:
        trace = directory / "trace.jsonl" if plan.trace else None
        account = mounted(kube, kubeconfig, "default", directory / "account")
        operator = Operator(kubeconfig, directory, account, port, trace)
        async with Cluster.connect(str(kubeconfig)) as cluster:
            try:
                return await measure(Bench(plan, kube, kubeconfig, cluster, operator, answering))
            finally:
                operator.stop()


def planned() -> Plan:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--fleet", type=Path)
    parser.add_argument("--indexes", type=int, help="over how many indexes the migrations are spread, at least a tenth")
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    minutes = float(os.environ.get("BENCH_MINUTES", "1" if options.quick else "10"))
    if options.quick:
        return Plan(Fleet(100, 10, options.indexes or 10), 35, 20, 60 * minutes, options.fleet, options.trace)
    return Plan(Fleet(1000, 100, options.indexes or 100), 75, 60, 60 * minutes, options.fleet, options.trace)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="reembed-bench-") as directory:
        found = asyncio.run(bench(planned(), Path(directory)))
    print(json.dumps(found))  # noqa: T201 - figures are what this program is for


if __name__ == "__main__":
    main()
