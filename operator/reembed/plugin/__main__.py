"""Starts `kubectl reembed`: `kubectl-reembed`, or `python -m reembed.plugin`."""

from __future__ import annotations

import asyncio
import io
import sys

from reembed.plugin import exits
from reembed.plugin.arguments import parse
from reembed.plugin.output import Output
from reembed.plugin.problems import Problem
from reembed.plugin.verbs import run


def main() -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without Unicode shows question marks, not a stack trace.
            stream.reconfigure(errors="replace")
    arguments = parse(sys.argv[1:])
    output = Output(sys.stdout, sys.stderr)
    try:
        return asyncio.run(run(arguments, output))
    except Problem as problem:
        output.aside(f"error: {problem}")
        return exits.FAILED
    except KeyboardInterrupt:
        return exits.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
