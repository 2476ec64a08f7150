"""`python -m reembed.backfill worker` keeps an index's store; `... shard` fills one shard, `... inspect` looks at all.

The worker drains and exits 0 on SIGTERM. A Job's pod that is stopped exits 143: 0 would tell its Job that it is done.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from reembed.backfill import inspecting, keep, shard
from reembed.logs import to_stdout

log = logging.getLogger("reembed.backfill")

_USAGE = 2
_NEEDED = {
    "worker": ("REEMBED_NAMESPACE", "REEMBED_INDEX", "REEMBED_DSN"),
    "shard": (
        "REEMBED_DSN",
        "REEMBED_COLLECTION",
        "REEMBED_EMBEDDER_URL",
        "REEMBED_FINGERPRINT",
        "JOB_COMPLETION_INDEX",
    ),
    "inspect": ("REEMBED_DSN", "REEMBED_INSPECTION", "REEMBED_COLLECTION", "REEMBED_FINGERPRINT"),
}


async def _shard() -> int:
    stop = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
    return await shard.run(shard.Settings.from_environment(os.environ), stop)


async def _worker() -> int:
    await keep.Keeping(keep.Settings.from_environment(os.environ)).run()
    return 0


async def _inspect() -> int:
    work = asyncio.create_task(inspecting.main(inspecting.Settings.from_environment(os.environ)))
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, work.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        return shard.STOPPED


_PROCESSES = {"worker": _worker, "shard": _shard, "inspect": _inspect}


def main(arguments: list[str]) -> int:
    """Run the named process and return its exit code."""
    to_stdout()
    if len(arguments) != 1 or arguments[0] not in _NEEDED:
        log.error("which process is missing: say `worker`, `shard` or `inspect`")
        return _USAGE
    if missing := [name for name in _NEEDED[arguments[0]] if not os.environ.get(name)]:
        log.error("%s not set: the operator sets them on the pods it makes", ", ".join(missing))
        return _USAGE
    return asyncio.run(_PROCESSES[arguments[0]]())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
