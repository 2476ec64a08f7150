"""Each agent's own random half of the labelled queries, and what that half proves of a candidate.

Eight judges with halves of their own are stricter than one with all queries at 1 %, and stay so with two liars among
them (docs/design/20261129-what-agents-judge.md has the figures). Halves overlap, so that none is too small to
prove anything; they differ, so that one odd choice of queries does not sway all.

The bound is that of `core.gates`' paired bootstrap, by a formula: an agent has no numpy, and whoever reads its evidence
comes to the same number.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import NormalDist

# One-sided, of one agent. Halves overlap, so that agents err together: where two lie and four of six others have to
# agree, 5 % would let 1.2 % of models at the margin pass, and 3 % lets half a percent.
LEVEL = 0.03
# As in `core.gates`, which says why: so many imagined queries are won outright by each model.
IMAGINED = 3


def own_half(queries: Collection[str], seed: bytes, collection: str) -> tuple[str, ...]:
    """Return half of the queries, in their order, by the agent's seed; another collection is judged on another half."""

    def place(query: str) -> bytes:
        return hashlib.sha256(b"\0".join((seed, collection.encode(), query.encode()))).digest()

    chosen = sorted(queries, key=place)[: math.ceil(len(queries) / 2)]
    return tuple(sorted(chosen))


def digest(queries: Iterable[str]) -> str:
    """Return what names a set of queries; it stands in the evidence, so that a half can be asked for and looked at."""
    return hashlib.sha256("\0".join(sorted(queries)).encode()).hexdigest()


def digest_of_labels(relevant: Mapping[str, Collection[str]]) -> str:
    """Return what names all labelled queries with their documents, whatever their order."""
    text = json.dumps(sorted((query, sorted(documents)) for query, documents in relevant.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def lower_bound(differences: Sequence[float], level: float = LEVEL) -> float:
    """Return what the mean difference, candidate - serving, lies below with a chance of `level`.

    It is the quantile of the resampled mean over these differences and the imagined ones, by its first four moments
    (Cornish and Fisher, 1938).
    """
    if not differences:
        return -math.inf
    count = len(differences) + 2 * IMAGINED
    mean = math.fsum(differences) / count
    second, third, fourth = (_moment(differences, mean, power) / count for power in (2, 3, 4))
    error = math.sqrt(second / count)
    skew = third / second**1.5 / math.sqrt(count)
    excess = (fourth / second**2 - 3) / count
    z = NormalDist().inv_cdf(level)
    quantile: float = z + skew * (z**2 - 1) / 6 + excess * (z**3 - 3 * z) / 24 - skew**2 * (2 * z**3 - 5 * z) / 36
    return mean + error * quantile


def _moment(differences: Sequence[float], mean: float, power: int) -> float:
    imagined: float = IMAGINED * ((1 - mean) ** power + (-1 - mean) ** power)
    return math.fsum((one - mean) ** power for one in differences) + imagined
