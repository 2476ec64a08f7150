"""Start, await and stop the programs that a cluster or a test server is made of.

Used by the single-node cluster (`node.py`), by the API server that integration tests talk to (`control_plane.py`) and
by the PostgreSQL fixture. A program never outlives the one that started it: the kernel sends it SIGTERM when its
parent dies, so a killed test run leaves no server behind. Standard library only: this runs before the virtual
environment exists.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# A wait that looks this often is fast enough for programs that start in a second and costs nothing.
_LOOK_EVERY_SECONDS = 0.05
_LOG_LINES_SHOWN = 15
# Linux only; elsewhere a killed test run may leave a server behind.
_ENDS_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()


class StartError(Exception):
    """A program did not come up; the text ends with the last lines of its log."""


@dataclass(frozen=True)
class Program:
    """A running program and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


def start(
    name: str,
    command: Sequence[str | Path],
    directory: Path,
    *,
    env: Mapping[str, str] | None = None,
    user: int | None = None,
) -> Program:
    """Start a program whose output goes to `directory`/NAME.log, as another user if asked."""
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*_ENDS_WITH_PARENT, *(str(part) for part in command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=env,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
    return Program(name, process, log)


def wait_until(ready: Callable[[], bool], program: Program, *, seconds: float) -> None:
    """Return as soon as `ready` holds; raise StartError if the program ends first or the time runs out."""
    for _ in range(int(seconds / _LOOK_EVERY_SECONDS)):
        if ready():
            return
        try:
            # Waiting for the program's end is the pause between two looks.
            status = program.process.wait(_LOOK_EVERY_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        raise StartError(f"{program.name} ended with status {status}:\n{tail(program.log)}")
    raise StartError(f"{program.name} is not ready after {seconds:.0f} s:\n{tail(program.log)}")


def stop(program: Program, *, seconds: float = 10, first: signal.Signals = signal.SIGTERM) -> None:
    """Ask a program to end; kill it if it takes longer than `seconds`."""
    if program.process.poll() is not None:
        return
    program.process.send_signal(first)
    try:
        program.process.wait(seconds)
    except subprocess.TimeoutExpired:
        program.process.kill()
        program.process.wait()


def tail(log: Path) -> str:
    """Return the last lines of a log, for an error's text."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:])


def free_port() -> int:
    """Return a TCP port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(address: str, port: int) -> bool:
    """Say whether something listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0
