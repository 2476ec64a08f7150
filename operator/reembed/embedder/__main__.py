"""`python -m reembed.embedder`: serves one model until SIGTERM, then drains and exits 0.

Exits 2 if the model can never be served as the pool describes it, 3 if another attempt may succeed; in both cases the
termination message says why.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import uvloop

from reembed.embedder.refusals import Refusal
from reembed.embedder.serving import serve
from reembed.embedder.settings import from_environment
from reembed.embedder.sources import CREDENTIALS
from reembed.logs import to_stdout

_log = logging.getLogger("reembed.embedder")


def main() -> int:
    """Run until told to end; return the exit code."""
    to_stdout()
    try:
        settings = from_environment(os.environ)
    except ValueError as error:
        _log.error("%s: the operator sets it on the pool's Deployments", error)
        return 2
    for name in CREDENTIALS:
        os.environ.pop(name, None)  # the engine's process, which reads a file of somebody else's, gets none
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except Refusal as refusal:
        _log.error("%s: %s", refusal.reason, refusal)
        refusal.leave(settings.termination_log)
        return refusal.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
