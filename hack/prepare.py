"""Makes all that takes long when the caches are empty, side by side: Kubernetes, llama.cpp, Chroma, bases of images.

`make prepare` and every test target call it; with full caches it takes a moment. Each part keeps its own lock and its
own place in the cache, so a run that was killed goes on where it stood.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from hack import base, tools, wheels
from hack.console import Stop
from tests.cluster import binary, choice


def main() -> None:
    parts: list[Callable[[], object]] = [binary.kubernetes, wheels.llama, tools.chroma]
    if choice.cluster(os.environ) == "local" and choice.obstacle("local") is None:
        parts += [binary.pause, base.archive]
    with ThreadPoolExecutor(len(parts)) as pool:
        running = [pool.submit(part) for part in parts]
    for part in running:
        part.result()


if __name__ == "__main__":
    try:
        main()
    except Stop as stop:
        sys.exit(str(stop))
