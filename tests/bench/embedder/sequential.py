"""`python -m tests.bench.embedder.sequential FILE SECONDS`: the loop that a user writes first, and the best such loop.

A process of its own, since llama-cpp-python keeps what it took. Prints texts per second by kind and setting.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from llama_cpp import Llama

from tests.bench.embedder.texts import texts


def main(path: str, seconds: float) -> None:
    kinds = texts()
    found: dict[str, dict[str, float]] = {}
    settings: dict[str, dict[str, Any]] = {"defaults": {}}
    for threads in range(1, (os.cpu_count() or 1) + 1):
        sizes = {"n_ctx": 512, "n_batch": 512, "n_ubatch": 512, "flash_attn": True}
        settings[f"{threads} threads"] = {"n_threads": threads, "n_threads_batch": threads, **sizes}
    for name, more in settings.items():
        engine = Llama(path, embedding=True, verbose=False, **more)
        found[name] = {kind: _rate(engine, kinds[kind], seconds) for kind in ("short", "mixed")}
        engine.close()
    sys.stdout.write(json.dumps(found))


def _rate(engine: Llama, some: list[str], seconds: float) -> float:
    began, count = time.perf_counter(), 0
    while (lasted := time.perf_counter() - began) < seconds:
        engine.embed(some[count % len(some)], truncate=True)
        count += 1
    return count / lasted


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
