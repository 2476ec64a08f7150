"""`make demo`: a real migration on real pods under steady queries, and a table of what happened.

It expects a cluster (`KUBECONFIG`), images (`REEMBED_REGISTRY`, `REEMBED_TAG`) and the programs `kubectl` and `helm`;
the Makefile provides them. Exit status 0 means that the migration ended as it should, no query failed, none was
answered by the wrong collection, and no document was embedded twice. `--rollback` loses the new model's pod at 50 % and
expects the way back instead. The world it made stays for looking around; the next run clears it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from demo import chaos
from demo.install import Release
from demo.kubectl import Failed, Kubectl
from demo.migration import Outcome, migrate
from demo.report import Figures, Step, shortfalls, table
from demo.stories import kills, loses_candidate
from demo.world import World

NAMESPACE = "reembed-demo"
_RESULTS = Path("build/bench")
_WARM_UP_SECONDS = 5.0  # the old model's latency under this load is what the new one is compared with


@dataclass(slots=True)
class Stages:
    """Says what is being done and remembers how long it took."""

    done: list[Step] = field(default_factory=list)

    async def run(self, name: str, work: Awaitable[object]) -> None:
        print(f"{name} ...", end=" ", flush=True)
        start = time.monotonic()
        await work
        self.done.append(Step(name, time.monotonic() - start))
        print(f"{self.done[-1].seconds:.1f} s", flush=True)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of the demo leaves."""

    figures: Figures
    preparation: tuple[Step, ...]
    outcome: Outcome


async def demo(arguments: argparse.Namespace) -> Run:
    start = time.monotonic()
    release = Release.of_environment(NAMESPACE)
    world = World(Kubectl.of_environment(NAMESPACE), release.image("demo"), arguments.documents, arguments.rate)
    stages = Stages()
    await _prepare(world, release, stages)
    outcome = await _migrate(world, release.kubectl, arguments)
    return Run(_figures(world, outcome, time.monotonic() - start), tuple(stages.done), outcome)


def conclude(run: Run, wanted: str, result: Path) -> int:
    """Print the table, write the figures, say what fell short and return the exit status."""
    print(f"\n{table(run.figures, run.preparation, run.outcome.steps)}")
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(run.figures.json(), indent=2) + "\n")
    problems = shortfalls(run.figures, wanted)
    for problem in (*problems, *run.outcome.tally["problems"], *run.outcome.judgement.reasons):
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if problems else 0


async def _prepare(world: World, release: Release, stages: Stages) -> None:
    await world.make_namespace()
    await stages.run("operator", release.install())
    await stages.run("what the last run left", world.clear())
    await stages.run(f"PostgreSQL with {world.documents:,} documents", world.start_store())
    await stages.run("model server", world.start_models())
    await stages.run("pools, index and its first vectors", world.fill())
    await stages.run(f"steady queries, {world.rate:.0f}/s", _steady(world))


async def _steady(world: World) -> None:
    await world.start_load()
    await asyncio.sleep(_WARM_UP_SECONDS)


async def _migrate(world: World, system: Kubectl, arguments: argparse.Namespace) -> Outcome:
    if arguments.rollback:
        print("kubectl apply -f demo/manifests/rollback.yaml")
        try:
            return await migrate(world, world.migrate_impatiently, [loses_candidate(world)], print)
        finally:
            await chaos.restore_models(world.kubectl)
    print("kubectl apply -f examples/migration.yaml")
    disturbances = [kills(system, state) for state in arguments.kill_operator]
    return await migrate(world, world.migrate, disturbances, print)


def _figures(world: World, outcome: Outcome, seconds: float) -> Figures:
    tally, evaluation = outcome.tally, outcome.migration["status"].get("evaluation") or {}
    filling = sum(step.seconds for step in outcome.steps if step.name == "Backfilling")
    return Figures(
        phase=outcome.state,
        documents=world.documents,
        documents_embedded=outcome.embedded,
        documents_per_s=world.documents / filling if filling else None,
        queries=tally["sent"],
        queries_per_s=tally["sent"] / tally["seconds"] if tally["seconds"] else 0.0,
        queries_failed=tally["failed"],
        queries_wrong_collection=outcome.judgement.wrong,
        queries_fell_back=outcome.judgement.fell_back,
        rollback_seconds=outcome.until_zero,
        query_p50_ms=tally["p50_ms"],
        query_p95_ms=tally["p95_ms"],
        mrr_old=evaluation.get("mrrServing"),
        mrr_new=evaluation.get("mrrCandidate"),
        operator_rss_mib=outcome.memory.operator,
        gateway_rss_mib=outcome.memory.gateway,
        embedder_anonymous_mib=outcome.memory.embedder,
        migration_seconds=outcome.seconds,
        seconds=seconds,
        machine=machine(),
        date=datetime.now(UTC).date().isoformat(),
    )


def machine() -> str:
    """Name the machine as far as a figure needs it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description="Migrate a real index under steady queries.")
    parser.add_argument("--documents", type=int, default=int(os.environ.get("DEMO_DOCUMENTS", "1500")))
    parser.add_argument("--rate", type=float, default=float(os.environ.get("DEMO_RATE", "25")), help="queries/s")
    parser.add_argument("--rollback", action="store_true", help="lose the new model's pod at 50 %%")
    parser.add_argument(
        "--kill-operator", metavar="STATES", default=[], type=lambda text: text.split(","), help="Backfilling,Canary"
    )
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    try:
        run = asyncio.run(demo(arguments))
    except (Failed, TimeoutError) as problem:
        print(f"\nFAILED: {problem or 'a step took too long'}", file=sys.stderr)
        return 1
    if arguments.rollback:
        return conclude(run, "RolledBack", _RESULTS / "demo-rollback.json")
    return conclude(run, "Succeeded", _RESULTS / "demo.json")


if __name__ == "__main__":
    sys.exit(main())
