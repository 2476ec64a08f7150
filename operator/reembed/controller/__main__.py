"""Starts the operator: `python -m reembed.controller`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from reembed.controller import garbage
from reembed.controller.operator import run
from reembed.controller.settings import election_from, from_environment
from reembed.controller.signals import obey_signals
from reembed.logs import to_stdout


async def _main() -> None:
    stop = asyncio.Event()
    obey_signals(stop)
    settings = from_environment(os.environ)
    collecting = asyncio.create_task(garbage.collect(), name="garbage")
    try:
        await run(settings, election_from(os.environ), stop)
    finally:
        collecting.cancel()


if __name__ == "__main__":
    garbage.tame()
    to_stdout()
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        asyncio.run(_main())
    except ValueError as error:
        sys.exit(f"reembed operator: {error}")
