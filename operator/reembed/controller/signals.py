"""The signals that end the operator in good order."""

from __future__ import annotations

import asyncio
import signal


def obey_signals(stop: asyncio.Event) -> None:
    """Have SIGTERM and SIGINT set `stop`; to be said again whenever kopf has begun, as it takes both for itself."""
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
