"""Starts the operator: `python -m reembed.controller`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from reembed.controller.operator import run
from reembed.controller.settings import from_environment
from reembed.logs import to_stdout


async def _main() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    await run(from_environment(os.environ), stop)


if __name__ == "__main__":
    to_stdout()
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        asyncio.run(_main())
    except ValueError as error:
        sys.exit(f"reembed operator: {error}")
