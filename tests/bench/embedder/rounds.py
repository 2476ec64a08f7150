"""Who is measured, with which settings, and one round of it: everybody once, and what is compared one after the other.

What was measured beside other programs is measured again, three times at most, and the quietest of them counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hack.console import say
from reembed.embedder.weights import convert
from tests.bench.embedder.machine import others, watched
from tests.bench.embedder.onnx_model import graph
from tests.bench.embedder.results import (
    AS_FILE,
    BEST_LOOP,
    BUSY_PERCENT,
    CLIENTS,
    IN_PROCESS,
    LOOP,
    ONNX,
    OURS,
    OURS_IN_PROCESS,
    THEIRS,
    THEIRS_BF16,
    Key,
    Round,
    Taken,
)
from tests.bench.embedder.servers import CANDIDATES, CORES, Flags, Server, Worker, engine, llama, model, ours
from tests.reference_model import ReferenceModel

Texts = Mapping[str, Sequence[str]]

_TRIES = 3


@dataclass
class Sides:
    """All that runs: servers by name (llama-server also by callers), engines by name; what they were told."""

    texts: Texts
    servers: dict[str, Server] = field(default_factory=dict)
    theirs: dict[int, Server] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    loops: dict[str, str] = field(default_factory=dict)  # the best loop by kind of texts
    settings: dict[str, str] = field(default_factory=dict)

    def server(self, name: str, clients: int) -> Server:
        return self.theirs[clients] if name == THEIRS else self.servers[name]


@contextmanager
def running(directory: Path, texts: Texts, reference: ReferenceModel, *, search: float) -> Iterator[Sides]:
    """Start everybody; `search` is for how long each setting is tried, 0 to take what was best elsewhere."""
    file, converted = model(), directory / "bf16.gguf"
    convert(file.path, converted, directory / "bf16.part")
    sides = Sides(texts)
    with ExitStack() as stack:
        flags = _best_flags(file.path, texts, search)
        started = {one: stack.enter_context(llama(file.path, one)) for one in dict.fromkeys(flags.values())}
        sides.theirs = {clients: started[one] for clients, one in flags.items()}
        sides.servers = {
            OURS: stack.enter_context(ours(file, directory / "auto")),
            AS_FILE: stack.enter_context(ours(file, directory / "file", WEIGHTS="AsFile")),
            THEIRS_BF16: stack.enter_context(llama(converted, flags[16])),
        }
        sides.settings = {f"llama-server, {clients} callers": str(one) for clients, one in flags.items()}
        _start_workers(stack, sides, directory, file.path, converted, reference)
        _best_loops(stack, sides, directory / "texts.json", file.path, max(search, 0.5))
        yield sides


def _start_workers(
    stack: ExitStack, sides: Sides, directory: Path, path: Path, converted: Path, reference: ReferenceModel
) -> None:
    listed, onnx = directory / "texts.json", directory / "model.onnx"
    listed.write_text(json.dumps(dict(sides.texts)))
    onnx.write_bytes(graph(reference.weights, reference.layers))
    sides.workers = {
        LOOP: stack.enter_context(engine("llama", path, listed)),
        ONNX: stack.enter_context(engine("onnx", path, listed, graph=str(onnx))),
        OURS_IN_PROCESS: stack.enter_context(engine("engine", converted, listed)),
    }


def _best_flags(path: Path, texts: Texts, seconds: float) -> dict[int, Flags]:
    """Return llama-server's fastest flags for each number of callers."""
    if not seconds:
        return dict.fromkeys(CLIENTS, CANDIDATES[0])
    rates: dict[Flags, dict[int, float]] = {}
    for flags in CANDIDATES:
        with llama(path, flags) as server:
            rates[flags] = {clients: server.ask(texts["mixed"], clients, seconds).rate for clients in CLIENTS}
        say(f"llama-server {flags}: " + ", ".join(f"{rate:.1f}/s with {n}" for n, rate in rates[flags].items()))
    return {clients: max(CANDIDATES, key=lambda flags: rates[flags][clients]) for clients in CLIENTS}


def _best_loops(stack: ExitStack, sides: Sides, texts: Path, path: Path, seconds: float) -> None:
    """Find the loop with the best settings for each kind, and keep those engines alone."""
    rates: dict[str, dict[str, float]] = {}
    for name, settings in _loop_settings().items():
        worker = stack.enter_context(engine("llama", path, texts, **settings))
        rates[name] = {kind: worker.rate(kind, seconds) for kind in ("short", "mixed")}
        sides.workers[name] = worker
    for kind in ("short", "mixed"):
        best = max(rates, key=lambda name: rates[name][kind])
        sides.loops[kind] = best
        sides.settings[f"best loop, {kind} texts"] = best
    for name in rates.keys() - set(sides.loops.values()):
        sides.workers.pop(name).process.kill()


def _loop_settings() -> dict[str, dict[str, Any]]:
    return {
        f"{threads} threads, flash_attn={flash}": {
            "n_threads": threads,
            "n_threads_batch": threads,
            "n_ctx": 256,
            "n_batch": 256,
            "n_ubatch": 256,
            "flash_attn": flash,
        }
        for threads in range(1, CORES + 1)
        for flash in (True, False)
    }


def plan() -> list[list[Key]]:
    """Return what is measured in a round; what stands together is compared and follows each other."""
    over_http = [[(OURS, "mixed", clients), (THEIRS, "mixed", clients)] for clients in CLIENTS]
    over_http[1] += [(AS_FILE, "mixed", 16), (THEIRS_BF16, "mixed", 16), (LOOP, "mixed", IN_PROCESS)]
    over_http[1].append((BEST_LOOP, "mixed", IN_PROCESS))
    short: list[Key] = [(OURS, "short", 16), (THEIRS, "short", 16)]
    short += [(LOOP, "short", IN_PROCESS), (BEST_LOOP, "short", IN_PROCESS)]
    more: list[list[Key]] = [[(OURS, kind, 16), (THEIRS, kind, 16)] for kind in ("medium", "long")]
    engines: list[list[Key]] = [
        [(OURS_IN_PROCESS, kind, IN_PROCESS), (ONNX, kind, IN_PROCESS)] for kind in ("mixed", "short")
    ]
    return [*over_http, short, *more, *engines]


def one_round(sides: Sides, seconds: float, number: int) -> Round:
    """Measure everybody; every other round in the opposite order, so that nobody is always the first."""
    found: dict[Key, Taken] = {}
    for group in plan():
        for key in group if number % 2 == 0 else reversed(group):
            found[key] = _quietest(sides, key, seconds)
    return found


def _quietest(sides: Sides, key: Key, seconds: float) -> Taken:
    found: list[Taken] = []
    while not found or (found[-1].others > BUSY_PERCENT and len(found) < _TRIES):
        found.append(_taken(sides, key, seconds))
    return min(found, key=lambda one: one.others)


def _taken(sides: Sides, key: Key, seconds: float) -> Taken:
    name, kind, clients = key
    worker = sides.workers[sides.loops[kind] if name == BEST_LOOP else name] if clients == IN_PROCESS else None
    server = sides.server(name, clients) if worker is None else None
    pid = worker.process.pid if worker is not None else server.pid if server is not None else 0
    with others() as rest, watched(pid) as memory:
        if worker is not None:
            taken = Taken(worker.rate(kind, seconds))
        else:
            assert server is not None
            answers = server.ask(sides.texts[kind], clients, seconds)
            p50, p95, p99 = (1000 * answers.percentile(q) for q in (50, 95, 99))
            taken = Taken(answers.rate, p50, p95, p99, sum(answers.refused.values()), caller=answers.cpu)
    taken.anonymous, taken.resident, taken.others = memory.anonymous, memory.resident, rest.percent
    return taken
