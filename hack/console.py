"""What the build scripts say and run: one line per step, and the output of a command only if it fails.

Used by everything that `make` calls before the virtual environment exists, so standard library only.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

Command = Sequence[str | Path]

_LINES_SHOWN = 30
_TRY_SECONDS = 30


class Stop(Exception):
    """Something is missing or failed; the text says what was found and what to do. Programs print it and exit 1."""


def say(text: str) -> None:
    """Tell the person what happens, on standard error: standard output is for values that scripts read."""
    print(text, file=sys.stderr, flush=True)


def run(command: Command, *, cwd: Path | None = None, env: Mapping[str, str] | None = None, stdin: str = "") -> str:
    """Run a command to its end and return its standard output; `env` adds to this process's environment."""
    words = [str(word) for word in command]
    full = {**os.environ, **(env or {})}
    done = subprocess.run(words, cwd=cwd, env=full, input=stdin, capture_output=True, text=True, check=False)
    _check(words, done.returncode, done.stdout + done.stderr)
    return done.stdout


def feed(command: Command, write: Callable[[IO[bytes]], object]) -> None:
    """Run a command to its end on what `write` writes to its standard input."""
    words = [str(word) for word in command]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=output, stderr=output)
        assert process.stdin is not None
        # A command that ends early breaks the pipe; what it says then is the error to show.
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            write(pipe)
        process.wait()
        output.seek(0)
        _check(words, process.returncode, output.read().decode(errors="replace"))


def works(command: Command) -> bool:
    """Say whether a command can be run and succeeds; what it prints is nobody's business."""
    try:
        return subprocess.run(command, capture_output=True, timeout=_TRY_SECONDS, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _check(words: Sequence[str], status: int, output: str) -> None:
    if status != 0:
        lines = output.strip().splitlines()[-_LINES_SHOWN:]
        raise Stop("\n".join([f"`{' '.join(words)}` ended with status {status}:", *lines]))
