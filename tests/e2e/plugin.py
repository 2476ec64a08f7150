"""`kubectl reembed` as a pipeline runs it: kubectl finds the plugin on the PATH."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.kubectl import Kubectl


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    problem: str

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.out))


async def reembed(kubectl: Kubectl, *words: str) -> Said:
    """Run one command in a namespace."""
    command = [*kubectl.program, "reembed", *words, f"--namespace={kubectl.namespace}"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "PATH": path}, stdout=pipe, stderr=pipe)
    out, problem = await process.communicate()
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), problem.decode())


async def accepted(kubectl: Kubectl, verb: str, name: str) -> None:
    """Command a migration; the operator has to accept."""
    said = await reembed(kubectl, verb, name)
    assert (said.code, said.out.partition(":")[0]) == (0, "accepted"), said
