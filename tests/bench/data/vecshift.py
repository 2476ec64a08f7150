"""vecshift's `apply` over the same table with the same embedder; in an environment of its own, made when it is needed.

It is asked as its documentation says: one job file, the batch size and the four requests at a time that it has by
itself, no index. It tells of every chunk that it stored; a rate counts from the first to the last of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from hack import tools
from hack.cache import ROOT
from hack.console import run, say
from tests.bench.data.source import DIMENSIONS, Source

_REQUIREMENT = "vecshift==0.4.0"
_PLACE = ROOT / "build" / "bench" / "vecshift"
_JOB = """
version: 1
name: bench
source: {{table: public.docs, text_column: body, vector_column: embedding}}
target: {{column: embedding_v2, index: none}}
model: "compat/bench,url={url}/v1,dims={dimensions},price=0"
"""


def program() -> Path:
    """Return vecshift's program, installed from PyPI if need be."""
    found = _PLACE / "bin" / "vecshift"
    if not found.exists():
        say(f"installing {_REQUIREMENT}")
        uv = tools.uv()
        run([uv, "venv", "--quiet", "--clear", "--python", "3.11", _PLACE])
        run([uv, "pip", "install", "--quiet", "--python", _PLACE / "bin" / "python", _REQUIREMENT])
    return found


def rate(source: Source, url: str, directory: Path) -> float:
    """Return documents a second."""
    job = directory / f"{source.database.name}.yaml"
    job.write_text(_JOB.format(url=url, dimensions=DIMENSIONS))
    command = [program(), "apply", "--yes", "--no-index", "--json", job]
    environment = {**os.environ, "VECSHIFT_DSN": source.dsn, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, env=environment, cwd=directory, stdout=subprocess.PIPE, text=True)
    marks, last = list[tuple[float, int]](), ""
    assert process.stdout is not None
    for line in process.stdout:
        last, said = line, json.loads(line) if line.startswith("{") else {}
        if said.get("event") == "batch":
            marks.append((time.perf_counter(), int(said["rows_written"])))
    if process.wait() != 0 or len(marks) < 2 or marks[-1][1] != source.count:
        raise RuntimeError(f"vecshift stored {marks[-1:]} of {source.count} documents and ended so: {last}")
    (start, before), (end, after) = marks[0], marks[-1]
    return (after - before) / (end - start)
