"""`python -m reembed.backfill worker` keeps an index's store; `... shard` fills one shard of a collection.

The worker drains and exits 0 on SIGTERM. A shard that is stopped exits 143, since 0 would tell its Job that it is done.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from reembed.backfill import keep, shard
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
}


async def _shard() -> int:
    stop = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
    return await shard.run(shard.Settings.from_environment(os.environ), stop)


async def _worker() -> int:
    await keep.Keeping(keep.Settings.from_environment(os.environ)).run()
    return 0


def main(arguments: list[str]) -> int:
    """Run the named process and return its exit code."""
    to_stdout()
    if len(arguments) != 1 or arguments[0] not in _NEEDED:
        log.error("which process is missing: say `worker` or `shard`")
        return _USAGE
    if missing := [name for name in _NEEDED[arguments[0]] if not os.environ.get(name)]:
        log.error("%s not set: the operator sets them on the pods it makes", ", ".join(missing))
        return _USAGE
    return asyncio.run(_worker() if arguments[0] == "worker" else _shard())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
