"""Measures the backfill beside others on this machine; prints one line of JSON and keeps it in build/bench/.

Everybody reads the same table of a real PostgreSQL, anew for each, and asks the same embedder: first the real one with
all-MiniLM-L6-v2, then one that costs nothing and shows what the pipeline itself can do. Figures are medians over
rounds, ratios are of two figures of one round, `spread` has the least and the most. A plain run takes some eight
minutes; --large adds a million documents.

* share_of_embedder_percent: the backfill by what the embedder gives when nothing but requests is asked of it, with the
  same texts, batches and priority; share_of_live_embedder_percent: by what it gives to live requests of that kind.
* share_of_embedder_own_cores_percent: the first again, with an embedder that has half of the cores to itself, while
  the shards and PostgreSQL share the other half; as a pod's limit or a node of its own gives it.
* ratio_vs_script: by a script that reads, embeds and inserts one document after the other.
* ratio_vs_vecshift: by vecshift's `apply`; ratio_vs_vecshift_fake_embedder: the same with the embedder that costs
  nothing, of which rows_per_s_fake_embedder is ours; cpu_of_shards_fake_embedder_percent: what the shards' processes
  took of all cores then, the rest being PostgreSQL's and the embedder's.
* worker_rss_mib: the peak of a shard's process, with the embedder that costs nothing; _N: of N documents.
* lag_p99_s_N: how long a committed write lacks in a full collection, p99, with N writes a second that each change a
  text, and the embedder that costs nothing; _real_embedder: with the real one.
* restcpu_percent: what programs that are no part of this took of the cores. Above five, figures mean little.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hack.cache import ROOT
from hack.console import say
from reembed.core.model import Model, Pooling
from reembed.embedder.llama import Weights
from tests.bench.data import backfill, cores, lag, script, standalone, vecshift
from tests.bench.data.results import RATES, Apart, Round, results, written
from tests.bench.data.source import source
from tests.bench.embedder.machine import others
from tests.bench.embedder.servers import model, ours
from tests.bench.embedder.texts import texts
from tests.cluster import processes
from tests.fixtures import postgres

SHARDS = 2
# vecshift stores some 1,000 documents a second of an embedder that costs nothing, and we some 10,000.
_FAKE_OURS, _FAKE_THEIRS = 40_000, 8_000
_FOLLOWED = 8_000
_MEMORY, _LARGE = 100_000, 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each measurement with the real embedder")
    parser.add_argument("--large", action="store_true", help=f"look at memory with {_LARGE:,} documents, too")
    asked = parser.parse_args()
    vecshift.program()
    bodies = _texts()
    with tempfile.TemporaryDirectory() as name, postgres.running() as server:
        directory = Path(name)
        taken = list(_rounds(server, bodies, directory, asked.rounds, asked.seconds))
        apart = list(_apart(server, bodies, directory, asked.rounds, asked.seconds))
        with _fake(directory) as url:
            memory = {count: _memory(server, bodies, url, count) for count in (_MEMORY, *[_LARGE] * asked.large)}
    _write(json.dumps(written(results(taken, apart), memory)))


def _texts() -> list[str]:
    tokenizer = Weights(model().path, Model("", "", Pooling.MEAN, 384, 512))
    return texts(lambda text: tokenizer.tokenize(text).full)["mixed"]


def _rounds(
    server: postgres.Server, bodies: Sequence[str], directory: Path, rounds: int, seconds: float
) -> Iterator[Round]:
    with _fake(directory) as fake, _real(directory) as real:
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            with others() as busy:
                found = _Measured(server, bodies, directory, seconds).round(real, fake)
            yield Round(**found, others=busy.percent)


def _apart(
    server: postgres.Server, bodies: Sequence[str], directory: Path, rounds: int, seconds: float
) -> Iterator[Apart]:
    """Measure the backfill beside an embedder that has cores of its own."""
    own, rest = cores.halves()
    with contextlib.ExitStack() as stack:
        with cores.confined(own):
            url = stack.enter_context(_real(directory))
        stack.enter_context(cores.confined(rest, [cores.postmaster(server)]))
        measured = _Measured(server, bodies, directory, seconds)
        for number in range(rounds):
            say(f"an embedder with cores of its own, round {number + 1} of {rounds}")
            yield measured.apart(url)


class _Measured:
    """One round's measurements, in turns."""

    def __init__(self, server: postgres.Server, bodies: Sequence[str], directory: Path, seconds: float) -> None:
        self._server = server
        self._bodies = bodies
        self._directory = directory
        self._seconds = seconds

    def round(self, real: str, fake: str) -> dict[str, Any]:
        alone = self._alone(real, background=True)
        count = max(500, int(alone * self._seconds))
        filled = self._fill(fake, _FAKE_OURS)
        return {
            "embedder": alone,
            "backfill": self._fill(real, count).rate,
            "embedder_live": self._alone(real, background=False),
            "script": self._script(real, count),
            "vecshift": self._vecshift(real, count),
            "backfill_fake": filled.rate,
            "cpu_fake": filled.share_of_cpu,
            "rss": filled.rss,
            "vecshift_fake": self._vecshift(fake, _FAKE_THEIRS),
            "lags": {rate: self._lag(fake, rate) for rate in RATES},
            "lag_real": self._lag(real, RATES[0]),
        }

    def apart(self, real: str) -> Apart:
        alone = self._alone(real, background=True)
        return Apart(alone, self._fill(real, max(500, int(alone * self._seconds))).rate)

    def _lag(self, url: str, rate: int) -> float:
        with source(self._server, self._bodies, _FOLLOWED) as made:
            return lag.percentile(made, url, rate, self._seconds, self._directory)

    def _alone(self, url: str, *, background: bool) -> float:
        return standalone.rate(url, self._bodies, self._seconds, shards=SHARDS, background=background)

    def _fill(self, url: str, count: int) -> backfill.Filled:
        with source(self._server, self._bodies, count) as made:
            return backfill.fill(made, url, shards=SHARDS)

    def _script(self, url: str, count: int) -> float:
        with source(self._server, self._bodies, count) as made:
            command = [sys.executable, "-m", script.__name__, made.dsn, url, str(self._seconds)]
            return float(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)

    def _vecshift(self, url: str, count: int) -> float:
        with source(self._server, self._bodies, count) as made:
            return vecshift.rate(made, url, self._directory)


def _memory(server: postgres.Server, bodies: Sequence[str], url: str, count: int) -> float:
    say(f"memory of a shard's process with {count:,} documents")
    with source(server, bodies, count) as made:
        return backfill.fill(made, url, shards=1).rss


@contextmanager
def _real(directory: Path) -> Iterator[str]:
    with ours(model(), directory / "embedder", FINGERPRINT=backfill.FINGERPRINT) as server:
        yield f"http://127.0.0.1:{server.port}"


@contextmanager
def _fake(directory: Path) -> Iterator[str]:
    port = processes.free_port()
    command = [sys.executable, "-m", "tests.bench.data.fake", str(port), backfill.FINGERPRINT]
    program = processes.start("fake", ["env", "-C", ROOT, *command], directory)
    try:
        processes.wait_until(lambda: processes.answers("127.0.0.1", port), program, seconds=20)
        yield f"http://127.0.0.1:{port}"
    finally:
        processes.stop(program)


def _write(line: str) -> None:
    place = ROOT / "build" / "bench" / "bench-data.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(line + "\n")
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
