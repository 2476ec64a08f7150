"""The figures of the benchmark by name, from what its rounds took. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.embedder.figures import Figure, figure, ratio

RATES = (10, 100, 500)  # live writes a second


@dataclass(frozen=True, slots=True)
class Round:
    """Documents a second of everybody in one round; CPU in percent of all cores, memory in MiB."""

    embedder: float
    embedder_live: float
    backfill: float
    script: float
    vecshift: float
    backfill_fake: float
    vecshift_fake: float
    cpu_fake: float
    others: float
    rss: float  # of a process that filled a shard
    lags: Mapping[int, float]  # p99 in seconds by writes a second, with the embedder that costs nothing
    lag_real: float  # of the fewest writes, with the real one


@dataclass(frozen=True, slots=True)
class Apart:
    """Documents a second of an embedder with cores of its own: alone, and filling a collection."""

    embedder: float
    backfill: float


def results(rounds: Sequence[Round], apart: Sequence[Apart]) -> dict[str, Figure | None]:
    """Return what rounds say; a ratio is of two figures of one round."""

    def of(name: str) -> list[float]:
        return [getattr(one, name) for one in rounds]

    return {
        "share_of_embedder_percent": ratio(of("backfill"), of("embedder"), 100),
        "share_of_live_embedder_percent": ratio(of("backfill"), of("embedder_live"), 100),
        "share_of_embedder_own_cores_percent": ratio(
            [one.backfill for one in apart], [one.embedder for one in apart], 100
        ),
        "ratio_vs_script": ratio(of("backfill"), of("script")),
        "ratio_vs_vecshift": ratio(of("backfill"), of("vecshift")),
        "ratio_vs_vecshift_fake_embedder": ratio(of("backfill_fake"), of("vecshift_fake")),
        "rows_per_s": figure(of("backfill")),
        "rows_per_s_embedder": figure(of("embedder")),
        "rows_per_s_script": figure(of("script")),
        "rows_per_s_vecshift": figure(of("vecshift")),
        "rows_per_s_fake_embedder": figure(of("backfill_fake")),
        "rows_per_s_vecshift_fake_embedder": figure(of("vecshift_fake")),
        "cpu_of_shards_fake_embedder_percent": figure(of("cpu_fake")),
        **{f"lag_p99_s_{rate}": figure([one.lags[rate] for one in rounds]) for rate in RATES},
        f"lag_p99_s_{RATES[0]}_real_embedder": figure(of("lag_real")),
        "others_cpu_percent": figure(of("others")),
    }


def written(found: Mapping[str, Figure | None], memory: Mapping[int, float]) -> dict[str, object]:
    """Return the line of JSON: medians, `spread` with the least and the most; memory by the number of documents."""
    values = {name: None if one is None else round(one.value, 3) for name, one in found.items()}
    spread = {name: [round(end, 3) for end in one.spread] for name, one in found.items() if one is not None}
    most = {"worker_rss_mib": round(max(memory.values()), 1)} if memory else {}
    sizes = {f"worker_rss_mib_{count}": round(mib, 1) for count, mib in memory.items()}
    return {**values, **most, **sizes, "spread": spread}
