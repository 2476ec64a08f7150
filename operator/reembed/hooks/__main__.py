"""`python -m reembed.hooks`: one HTTP hook of a migration, called once by its Job.

Exits 0 if the receiver took it, 1 if it did not, 2 if the hook cannot be called as it is described; the termination
message says why. The first process of a container ignores signals it does not handle: SIGTERM ends this one with 143,
for which its Job sends another pod.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from reembed.hooks.call import call
from reembed.hooks.settings import InvalidSettings, Settings, from_environment
from reembed.logs import to_stdout

_log = logging.getLogger("reembed.hooks")

_DONE = 0
_FAILED = 1
_INVALID = 2
_STOPPED = 143


async def run(settings: Settings) -> int:
    """Call, leave word of the outcome, and return the exit code."""
    task = asyncio.ensure_future(call(settings))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        answer = await task
    except asyncio.CancelledError:
        return _leave(settings.termination_log, "the pod was told to end before the receiver answered", _STOPPED)
    return _leave(settings.termination_log, answer.text, _DONE if answer.done else _FAILED)


def _leave(termination_log: Path, text: str, code: int) -> int:
    """Leave the last words where Kubernetes reads them."""
    try:
        termination_log.write_text(text)
    except OSError as error:
        _log.warning("the termination message can't be written: %s", error.strerror)
    return code


def main() -> int:
    """Run and return the exit code."""
    to_stdout()
    try:
        settings = from_environment(os.environ)
    except InvalidSettings as error:
        _log.error("%s", error)
        place = os.environ.get("REEMBED_TERMINATION_LOG", "/dev/termination-log")
        return _leave(Path(place), str(error), _INVALID)
    return asyncio.run(run(settings))


if __name__ == "__main__":
    sys.exit(main())
