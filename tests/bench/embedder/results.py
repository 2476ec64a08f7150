"""The figures of the benchmark by name, from what its rounds took. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.embedder.figures import Figure, figure, ratio

OURS = "ours"
AS_FILE = "ours, weights as in the file"
THEIRS = "llama-server, the file as it is"
THEIRS_BF16 = "llama-server, BF16"
OURS_IN_PROCESS = "ours, in process"
ONNX = "onnxruntime float32, in process"
LOOP = "one text at a time, defaults"
BEST_LOOP = "one text at a time, best settings"
CLIENTS = (1, 16, 128)
IN_PROCESS = 0
# Above this, programs that are no part of the benchmark have taken too much of the cores.
BUSY_PERCENT = 5

Key = tuple[str, str, int]  # who, which texts, how many callers


@dataclass
class Taken:
    """One measurement: texts a second, latencies in ms, answers that were not 200, and what it took of the machine.

    `anonymous` and `resident` are MiB of the process and its children at most; `others` and `caller` the CPU time of
    other programs (percent of all cores) and of the callers (percent of one).
    """

    rate: float
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    refused: int = 0
    anonymous: float = 0.0
    resident: float = 0.0
    others: float = 0.0
    caller: float = 0.0


Round = Mapping[Key, Taken]


def results(rounds: Sequence[Round]) -> dict[str, Figure | None]:
    """Return what rounds say; what could not be measured is None."""

    def rates(name: str, kind: str, clients: int) -> list[float]:
        return [one[name, kind, clients].rate for one in rounds]

    def against(name: str, kind: str, clients: int, ours: str = OURS, at: int | None = None) -> Figure | None:
        return ratio(rates(ours, kind, clients if at is None else at), rates(name, kind, clients))

    many = [one[OURS, "mixed", 128] for one in rounds]
    return {
        **{f"ratio_vs_llama_server_{clients}": against(THEIRS, "mixed", clients) for clients in CLIENTS},
        "ratio_vs_llama_server_same_type_16": against(THEIRS_BF16, "mixed", 16),
        "ratio_as_file_vs_llama_server_16": ratio(rates(AS_FILE, "mixed", 16), rates(THEIRS, "mixed", 16)),
        **{f"ratio_vs_llama_server_{kind}_16": against(THEIRS, kind, 16) for kind in ("short", "medium", "long")},
        "ratio_vs_onnxruntime": against(ONNX, "mixed", IN_PROCESS, OURS_IN_PROCESS),
        "ratio_vs_onnxruntime_short": against(ONNX, "short", IN_PROCESS, OURS_IN_PROCESS),
        **{f"ratio_vs_sequential_{kind}": against(LOOP, kind, IN_PROCESS, at=16) for kind in ("short", "mixed")},
        **{
            f"ratio_vs_best_sequential_{kind}": against(BEST_LOOP, kind, IN_PROCESS, at=16)
            for kind in ("short", "mixed")
        },
        "p99_over_p50_128": ratio([one.p99 for one in many], [one.p50 for one in many]),
        "throughput_128_over_16_percent": ratio(rates(OURS, "mixed", 128), rates(OURS, "mixed", 16), 100),
        "refused_128": figure([float(one.refused) for one in many]),
        "others_cpu_percent": figure([taken.others for one in rounds for taken in one.values()]),
        "callers_cpu_percent": figure([taken.caller for one in rounds for key, taken in one.items() if key[2]]),
    }


def over_plan(rounds: Sequence[Round], plan: float | None) -> Figure | None:
    """Return by how many percent anonymous memory under load was above what was planned, in bytes."""
    if not plan:
        return None
    peaks = [max(taken.anonymous for key, taken in one.items() if key[0] == OURS) for one in rounds]
    return figure([100 * (peak * (1 << 20) / plan - 1) for peak in peaks])


def medians(rounds: Sequence[Round], key: Key) -> Taken:
    """Return the median of each figure over rounds; of memory the most."""
    taken = [one[key] for one in rounds]

    def middle(name: str) -> float:
        return float(statistics.median(getattr(one, name) for one in taken))

    return Taken(
        middle("rate"),
        middle("p50"),
        middle("p95"),
        middle("p99"),
        sum(one.refused for one in taken),
        max(one.anonymous for one in taken),
        max(one.resident for one in taken),
        middle("others"),
        middle("caller"),
    )
