"""Whether the gates keep their promises: `python -m tests.bench.gates` prints one line of JSON with what it measured.

The population is real: what a real model and weakened copies of it find for 2,400 labelled queries (`weakened`). A
trial draws queries from it, so the truth is known. Each copy has a difference of its own; where a model "at the margin"
or "at the limit" is asked for, margin and limit are set to the copy's true loss, so that no value is made up. Beside
them stand losses that are hard to see on purpose: whole queries, few of them.

* false_promotion_percent: one look, a model worse by exactly the margin passes; the worst of all copies and sizes.
* false_rollback_percent: a look every 20 queries from 100 to 4,000, a model exactly at the limit is taken back.
* queries_to_detect: the same looks, median number of queries until a loss of 0.05 MRR is certain (limit 0); the slowest
  copy, moved to that loss. A model of another kind, whose answers differ more from query to query, is in the details.
* needed_queries_error_percent: what an undecided gate asks for, at its median over trials, against what decides in 80 %
  of trials; the worst of all copies and sizes. Its spread is in the details, and cannot be small: who knew the
  difference well enough to say the number well would be done.

Seconds are of this machine and are printed, never asserted. `--trials` and `--copies` shorten it.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reembed.core import gates
from reembed.core.gates import bounds, queries_needed
from reembed.core.sequences import Sample, Tally, difference_bounds, mean_bounds, share_bounds
from reembed.core.slices import SliceRule, SliceVerdict, judge_slices
from tests.bench.weakened import Judged, judged

Reals = NDArray[np.float64]

K = 10
LOSS = 0.05
SIZES = (100, 300, 1_000)
LOOKS = np.arange(100, 4_001, 20)
# With less than so many standard errors above the margin nothing passes, so no bootstrap is needed to know it: the
# level's quantile is at 2.6 of them.
_HOPELESS = 1.5
_OTHER = "another model"


@dataclass(frozen=True)
class Population:
    """A model's difference from the one that serves, for each query that there is."""

    name: str
    differences: Reals

    @property
    def truth(self) -> float:
        return float(self.differences.mean())


def reciprocal(ranks: NDArray[np.int64]) -> Reals:
    return np.where(ranks < K, 1 / (ranks + 1), 0.0)


def real(found: Judged) -> list[Population]:
    serving = reciprocal(found.serving)
    return [Population(name, reciprocal(ranks) - serving) for name, ranks in found.candidates.items()]


def rare(sign: float, word: str) -> list[Population]:
    """Models that differ in few queries but entirely, which is what a small sample does not show."""
    return [
        Population(f"{percent} % of queries {word}", np.array([sign] * percent + [0.0] * (100 - percent)))
        for percent in (1, 2, 5)
    ] + [Population(f"4 % {word}, 20 % a little against", np.array([sign] * 4 + [-0.1 * sign] * 20 + [0.0] * 76))]


def false_promotions(of: Population, size: int, trials: int, seed: int) -> float:
    """Return the percentage of trials in which a model at the margin is promoted."""
    rng, passed = np.random.default_rng(seed), 0
    for _ in range(trials):
        drawn = rng.choice(of.differences, size)
        error = drawn.std() / math.sqrt(size)
        if drawn.mean() - of.truth <= _HOPELESS * error and error > 0:
            continue
        low, _ = bounds(drawn[:, None], rng)
        passed += low[0] > of.truth
    return 100 * passed / trials


def watched(differences: Reals, limit: float, trials: int, seed: int) -> tuple[float, float | None]:
    """Return the percentage of runs in which the loss becomes certain, and the median number of queries until then."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(trials):
        drawn = rng.choice(differences, LOOKS[-1])
        totals, squares = drawn.cumsum(), (drawn**2).cumsum()
        looks = (Sample(int(n), float(totals[n - 1]), float(squares[n - 1])) for n in LOOKS)
        found.append(next((one.count for one in looks if mean_bounds(one)[1] < limit), math.inf))
    median = float(np.median(found))
    return 100 * sum(map(math.isfinite, found)) / trials, median if math.isfinite(median) else None


def shares(truth: float, trials: int, seed: int) -> dict[str, float]:
    """Return how often the bounds of a share are ever wrong, in percent, and the same for equal shares of two sides."""
    rng, wrong, apart = np.random.default_rng(seed), 0, 0
    pairs = trials // 5
    for trial in range(trials):
        events = (rng.random(LOOKS[-1]) < truth).cumsum()
        tallies = [Tally(int(n), int(events[n - 1])) for n in LOOKS]
        wrong += any(not low <= truth <= high for low, high in (share_bounds(one, about=truth) for one in tallies))
        if trial < pairs:
            # The other side has nine times the queries, as at the first step of a canary.
            other = (rng.random(9 * LOOKS[-1]) < truth).cumsum()
            served = (Tally(9 * int(n), int(other[9 * n - 1])) for n in LOOKS)
            both = (difference_bounds(*one, about=truth) for one in zip(tallies, served, strict=True))
            apart += any(not low <= 0 <= high for low, high in both)
    return {"share_wrong_percent": 100 * wrong / trials, "difference_wrong_percent": 100 * apart / pairs}


def needed(of: Population, margin: float, trials: int, seed: int) -> dict[str, Any]:
    """Compare what pilots of several sizes ask for with what decides in 80 % of trials."""
    rng = np.random.default_rng(seed)
    truly = _decisive(of.differences, margin, trials, rng)
    pilots = []
    for share in (8, 4, 2):
        size = truly // share
        if size < SIZES[0]:
            continue
        said: list[float] = []
        inside = 0
        for _ in range(4 * trials):
            drawn = rng.choice(of.differences, size)
            if len(said) == trials or _decided(drawn, margin):
                continue
            asked = queries_needed(drawn, margin)
            said.append(size + asked.more if asked.more is not None else math.inf)
            inside += size + asked.least <= truly and (asked.most is None or size + asked.most >= truly)
        lower, median, upper = (_ratio(said, truly, share) for share in (0.25, 0.5, 0.75))
        pilots.append(
            {
                "queries": size,
                "median": median,
                "quartiles": [lower, upper],
                "range_holds_percent": round(100 * inside / len(said), 1),
            }
        )
    return {"margin": margin, "truly": truly, "said_over_truly": pilots}


def _ratio(said: list[float], truly: int, share: float) -> float:
    # Where the gate makes no forecast, it says that many times as many would be needed.
    return min(99.0, round(float(np.quantile(said, share, method="nearest")) / truly, 2))


def _decided(drawn: Reals, margin: float) -> bool:
    """Judge as the gate does, with the normal approximation of the bootstrap over the same imagined queries."""
    count = len(drawn) + 2 * gates.IMAGINED
    mean = drawn.sum() / count
    error = math.sqrt(((drawn**2).sum() + 2 * gates.IMAGINED) / count - mean**2) / math.sqrt(count)
    return bool(abs(mean + margin) > 2.576 * error)


def _decisive(differences: Reals, margin: float, trials: int, rng: np.random.Generator) -> int:
    """Return the number of queries that decides in 80 % of trials."""
    distance = abs(float(differences.mean()) + margin)
    low, high = (factor * (3.418 * float(differences.std()) / distance) ** 2 for factor in (0.5, 2.5))
    while high / low > 1.02:
        middle = math.sqrt(low * high)
        decided = sum(_decided(rng.choice(differences, int(middle)), margin) for _ in range(trials))
        low, high = (middle, high) if decided < 0.8 * trials else (low, middle)
    return round(math.sqrt(low * high))


def slices(found: Judged, trials: int, seed: int) -> dict[str, float]:
    """Return how often slices stop a model, in percent: one that should pass, and two that should not.

    Queries are of the parts of the library that they ask about, with so few queries that most slices are small.
    """
    rng, rule = np.random.default_rng(seed), SliceRule()
    names = np.array(found.kinds)
    large = [name for name in sorted(set(found.kinds)) if (names == name).sum() >= 40]
    serving, candidate = reciprocal(found.serving), reciprocal(found.candidates["documents of 128 tokens"])

    def stopped(hurt: float, share: float, verdicts: set[str]) -> float:
        """Return how often a verdict falls when one slice, or all if `share` is 1, loses that much MRR."""
        count = 0
        for _ in range(trials):
            drawn = np.concatenate([rng.choice(np.flatnonzero(names == name), 60) for name in large])
            labels = [(str(name),) for name in names[drawn]]
            struck = np.isin(names[drawn], large if share == 1 else large[:1])
            after = candidate[drawn]
            # Whole queries are lost, as many as make the loss.
            alike = np.flatnonzero(struck)
            now = float((after[alike] - serving[drawn][alike]).mean())
            lost = rng.random(len(alike)) < max(0.0, hurt + now) / max(float(after[alike].mean()), 1e-9)
            after[alike[lost]] = 0.0
            reports = judge_slices(serving[drawn], after, labels, rule)
            count += bool(verdicts & {one.verdict for one in reports})
        return 100 * count / trials

    inferior, doubted = {SliceVerdict.INFERIOR.value}, {SliceVerdict.INFERIOR.value, SliceVerdict.SUSPECT.value}
    return {
        "slices": len(large),
        "good_model_doubted_percent": stopped(-1.0, 0, doubted),
        "all_at_the_margin_called_inferior_percent": stopped(rule.margin, 1, inferior),
        "one_loses_0.20_found_percent": stopped(0.20, 0, doubted),
        "one_loses_0.30_found_percent": stopped(0.30, 0, doubted),
    }


def seconds_of_a_look() -> float:
    """Return how long the bootstrap of all metrics takes for 2,000 queries."""
    rng = np.random.default_rng(1)
    drawn = rng.choice([-1.0, -0.5, 0.0, 0.0, 0.5, 1.0], size=(2_000, 3))
    took = []
    for _ in range(3):
        began = time.perf_counter()
        bounds(drawn, rng)
        took.append(time.perf_counter() - began)
    return round(min(took), 2)


def tasks(found: Judged, trials: int, copies: int) -> Iterator[tuple[tuple[str, ...], Callable[[], Any]]]:
    """Yield each measurement with its place among the details."""
    models = real(found)[:copies]
    worse = [one for one in models if one.truth < -0.005]
    # What hides is what speaks for the other verdict: rare losses for a promotion, rare gains for a rollback.
    for one in [*worse, *rare(-1.0, "lost")]:
        for size in SIZES:
            yield ("false_promotions", one.name, str(size)), partial(false_promotions, one, size, trials, size)
    for one in [*worse, *rare(1.0, "won")]:
        yield ("false_rollbacks", one.name), partial(watched, one.differences, one.truth, trials, 1)
    for one in models:
        moved = one.differences - (one.truth + LOSS)
        yield ("detected", one.name), partial(watched, moved, 0.0, trials, 2)
        yield ("as_it_is", one.name), partial(watched, one.differences, 0.0, trials // 5, 3)
        for margin in (0.02, 0.03):
            if 0.005 < abs(one.truth + margin) < 0.045:
                yield ("needed", f"{one.name}, {margin}"), partial(needed, one, margin, trials, 4)
    for truth in (0.001, 0.01, 0.05):
        yield ("shares", str(truth)), partial(shares, truth, trials, 6)
    yield ("slices", "parts of the library"), partial(slices, found, trials, 5)


def _run(task: tuple[tuple[str, ...], Callable[[], Any]]) -> tuple[tuple[str, ...], Any]:
    return task[0], task[1]()


def summary(results: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    """Return the worst of each measurement, and all of them."""
    of: dict[str, dict[str, Any]] = {}
    for (kind, *place), result in results.items():
        of.setdefault(kind, {})[" ".join(place)] = result
    medians = [pilot["median"] for one in of["needed"].values() for pilot in one["said_over_truly"]]
    return {
        "false_promotion_percent": max(of["false_promotions"].values()),
        "false_rollback_percent": max(percent for percent, _ in of["false_rollbacks"].values()),
        "queries_to_detect": max(median for name, (_, median) in of["detected"].items() if name != _OTHER),
        "needed_queries_error_percent": round(100 * max(abs(median - 1) for median in medians)),
        "seconds_of_a_look": seconds_of_a_look(),
        "details": of,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the gates promise, on real embeddings.")
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--copies", type=int, default=6, help="how many of the weakened models")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    work = list(tasks(judged(), asked.trials, asked.copies))
    with get_context("spawn").Pool(asked.processes) as pool:
        results = dict(pool.imap_unordered(_run, work))
    print(json.dumps(summary({place: results[place] for place, _ in work})))  # noqa: T201 what this program is for


if __name__ == "__main__":
    main()
