"""Whether eight agents judge retrieval as they promise: `python -m tests.bench.panel.trials` prints one line of JSON.

The population is real: what a real model and weakened copies of it find for 2,400 labelled queries (`bench.weakened`).
A trial draws labelled queries from it and lets every honest agent judge by the code that agents run: its own half by
its own seed, the bound of that half, the margin. Six approvals of eight promote.

* bad_promoted_percent: a model worse by exactly the margin, two agents always approve; the worst of copies and sizes.
* good_promoted_percent: a model no worse than the serving one, 2,000 queries, margin 0.02, two agents always reject;
  the worst of such copies.

`details` has both for honest panels too, for fewer queries, and for losses that strike few queries but entirely.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np

from reembed.core.quorum.halves import LEVEL, lower_bound, own_half
from tests.bench.gates import Population, rare, real
from tests.bench.weakened import judged

AGENTS, QUORUM, LIARS = 8, 6, 2
SIZES = (300, 1_000, 2_000)
MARGIN = 0.02
_SEEDS = tuple(bytes([number]) * 32 for number in range(AGENTS))
# With less than so many standard errors above the margin no agent approves, so that no bound is needed to know it.
_HOPELESS = 1.0


def approvals(differences: dict[str, float], margin: float, trial: int, agents: int) -> int:
    """Return how many of the honest agents approve a model with these differences by query."""
    return sum(
        lower_bound([differences[one] for one in own_half(differences, _SEEDS[agent], f"c_{trial}")]) > -margin
        for agent in range(agents)
    )


def trials(of: Population, margin: float, size: int, count: int) -> list[int]:
    """Return of each trial how many of eight honest agents approve."""
    rng, names = np.random.default_rng(size), [f"query {number}" for number in range(size)]
    found = []
    for trial in range(count):
        drawn = rng.choice(of.differences, size)
        error = float(drawn.std()) / math.sqrt(size)
        if error > 0 and float(drawn.mean()) + margin <= _HOPELESS * error:
            found.append(0)
            continue
        found.append(approvals(dict(zip(names, drawn.tolist(), strict=True)), margin, trial, AGENTS))
    return found


def promoted(approving: list[int], liars: int) -> float:
    """Return the percentage that is promoted: `liars` above zero approve whatever there is, below it they reject.

    Which two lie says nothing of what they would have measured: their share of the honest word is taken away.
    """
    honest = AGENTS - abs(liars)
    needed = QUORUM - max(liars, 0)
    chances = [_at_least(one, honest, needed) for one in approving]
    return 100 * math.fsum(chances) / len(chances)


def _at_least(approving: int, honest: int, needed: int) -> float:
    """Return the chance that of `honest` agents drawn from eight so many approve (hypergeometric)."""
    total = math.comb(AGENTS, honest)
    ways = sum(
        math.comb(approving, some) * math.comb(AGENTS - approving, honest - some)
        for some in range(needed, honest + 1)
        if some <= approving and honest - some <= AGENTS - approving
    )
    return ways / total


def tasks(count: int) -> Iterator[tuple[tuple[str, str, int], Any]]:
    models = real(judged())
    for one in [*(one for one in models if one.truth < -0.005), *rare(-1.0, "lost")]:
        for size in SIZES:
            yield ("bad", one.name, size), partial(trials, one, -one.truth, size, count)
    for one in models:
        if one.truth >= 0:
            for size in SIZES:
                yield ("good", one.name, size), partial(trials, one, MARGIN, size, count)


def _run(task: tuple[tuple[str, str, int], Any]) -> tuple[tuple[str, str, int], list[int]]:
    return task[0], task[1]()


def measure(count: int = 1_000, processes: int = 2) -> dict[str, Any]:
    """Return both figures and their details."""
    with get_context("spawn").Pool(processes) as pool:
        results = dict(pool.imap_unordered(_run, list(tasks(count))))
    details: dict[str, dict[str, list[float]]] = {}
    bad, good = [], []
    for (kind, name, size), found in sorted(results.items()):
        shares = [round(promoted(found, liars), 2) for liars in (LIARS, 0, -LIARS)]
        details.setdefault(kind, {})[f"{name}, {size} queries"] = shares
        if kind == "bad":
            bad.append(shares[0])
        elif size == SIZES[-1]:
            good.append(shares[2])
    return {
        "bad_promoted_percent": max(bad),
        "good_promoted_percent": min(good),
        "trials": count,
        "level": LEVEL,
        "details_of": "two approve whatever there is, all are honest, two reject whatever there is",
        "details": details,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure on real embeddings how eight agents judge retrieval.")
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    print(json.dumps(measure(asked.trials, asked.processes)))  # noqa: T201 what this program is for


if __name__ == "__main__":
    main()
