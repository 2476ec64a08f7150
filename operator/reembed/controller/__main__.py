"""Starts the operator: `python -m reembed.controller`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys

from reembed.controller.operator import run
from reembed.controller.settings import from_environment


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.formatTime(record), "level": record.levelname, "message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


async def _main() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    await run(from_environment(os.environ), stop)


if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Json())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        asyncio.run(_main())
    except ValueError as error:
        sys.exit(f"reembed operator: {error}")
