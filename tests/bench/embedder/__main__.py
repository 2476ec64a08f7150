"""Measures the embedder beside others on this machine; prints tables and one line of JSON, and keeps it in build/.

All are measured in turns, so that what else the machine does meets each of them; a ratio is the median over rounds of
two figures of one round, `spread` has the least and the most of them. The model is all-MiniLM-L6-v2 in F16, texts are
of Python's standard library with at most 256 tokens, callers are closed loops on the same cores, answers are base64,
and nothing is answered from memory. One run takes eleven minutes, three with --quick.

* ratio_vs_llama_server_N: texts a second over HTTP with N callers, mixed texts, against llama-server with the file as
  it is and the flags that were fastest for N callers; _same_type_16: against llama-server with BF16 weights.
* ratio_vs_onnxruntime: our engine without HTTP against onnxruntime float32 in a process, mixed texts.
* ratio_vs_sequential_short, _mixed: ours over HTTP with 16 callers against `Llama(path, embedding=True).embed(text)`,
  one text at a time in a process; ratio_vs_best_sequential: the same with the best threads and flash attention.
* p99_over_p50_128, throughput_128_over_16_percent: ours, mixed texts; refused_128: answers that were not 200.
* latency_variation_percent: standard deviation by mean of the latency of texts of 64 tokens, asked at even intervals at
  70 % of what 16 callers of such texts get; _random_: the same at random (Poisson) times.
* cosine_min: ours against the published weights in numpy, float32; other_cosine_min: the worst of the others.
* load_anonymous_percent: growth of anonymous memory while the file is fetched and checked, by the file's size;
  load_rate_percent: the rate of that over HTTP, by a plain read of the same server with its sum;
  load_rate_of_copy_percent: by a plain read that is written to the disk as well.
* memory_over_plan_percent: anonymous memory under all this load by reembed_embedder_memory_plan_bytes, less 100.
* memory_slope_mib_per_hour: with --memory-minutes N, of a line through that much mixed load; its standard error beside.
* others_cpu_percent: what programs that are no part of this took of the cores. Above five, figures mean little.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hack.cache import ROOT
from hack.console import say
from reembed.core.model import Model, Pooling
from reembed.embedder.llama import Weights
from tests.bench.embedder import loading, report, steady
from tests.bench.embedder.figures import Figure
from tests.bench.embedder.results import OURS, Round, over_plan, results
from tests.bench.embedder.rounds import Sides, one_round, running
from tests.bench.embedder.servers import Server, Worker, model, published
from tests.bench.embedder.texts import texts
from tests.reference_model import ReferenceModel

_CHECKED = 30  # texts of each kind whose vectors are compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three short rounds, and no search for the best flags")
    parser.add_argument("--rounds", type=int, help="5, or 3 with --quick")
    parser.add_argument("--seconds", type=float, help="of each measurement of a round: 3, or 1 with --quick")
    parser.add_argument("--memory-minutes", type=float, default=0, help="watch memory under mixed load for so long")
    asked = parser.parse_args()
    rounds, seconds = asked.rounds or (3 if asked.quick else 5), asked.seconds or (1.0 if asked.quick else 3.0)
    reference, kinds = published(), _texts()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        with running(place, kinds, reference, search=0 if asked.quick else 2 * seconds / 3) as sides:
            taken = [_round(sides, seconds, number, rounds) for number in range(rounds)]
            found = {**results(taken), **_steady(sides, taken, reference, seconds)}
            if asked.memory_minutes:
                say(f"watching memory for {asked.memory_minutes:g} minutes")
                found |= steady.growth(sides.servers[OURS], kinds["mixed"], asked.memory_minutes)
    found |= loading.measure(model(), rounds)
    report.show(taken, found, sides.settings)
    _write(found)


def _texts() -> dict[str, list[str]]:
    tokenizer = Weights(model().path, Model("", "", Pooling.MEAN, 384, 512))
    return texts(lambda text: tokenizer.tokenize(text).full)


def _round(sides: Sides, seconds: float, number: int, rounds: int) -> Round:
    say(f"round {number + 1} of {rounds}")
    return one_round(sides, seconds, number)


def _steady(sides: Sides, taken: list[Round], reference: ReferenceModel, seconds: float) -> Mapping[str, Figure | None]:
    ours = sides.servers[OURS]
    some = [text for kind in ("short", "medium", "long") for text in sides.texts[kind][:_CHECKED]]
    rest = [*set(sides.theirs.values()), *(one for name, one in sides.servers.items() if name != OURS)]
    everybody: list[Server | Worker] = [*rest, *sides.workers.values()]
    return {
        **steady.variations(ours, sides.texts["equal"], seconds),
        **steady.cosines(ours, everybody, some, reference),
        "memory_over_plan_percent": over_plan(taken, steady.planned(ours)),
    }


def _write(found: Mapping[str, Figure | None]) -> None:
    values = {name: None if one is None else round(one.value, 5) for name, one in found.items()}
    spread = {name: [round(end, 5) for end in one.spread] for name, one in found.items() if one is not None}
    written = json.dumps({**values, "spread": spread})
    place = ROOT / "build" / "bench-embedder.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(written + "\n")
    sys.stdout.write(written + "\n")


if __name__ == "__main__":
    main()
