"""`python -m reembed.panel --role ROLE`: one agent of a panel, until SIGTERM; then it drains and exits 0."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from reembed.cluster.access import NoAccess
from reembed.cluster.client import Cluster
from reembed.logs import to_stdout
from reembed.panel import agent, judge
from reembed.panel.keys import BrokenSecret
from reembed.panel.metrics import Metrics
from reembed.panel.settings import ROLES, Settings, SettingsError, from_environment
from reembed.panel.voting import Judge

_LOGGER = logging.getLogger("reembed.panel")
_USAGE = 2


# Opens an agent's judge: by its connection, its settings, and what it alone knows.
Opening = Callable[[Cluster, Settings, bytes], AbstractAsyncContextManager[Judge]]


@asynccontextmanager
async def judging(cluster: Cluster, settings: Settings, seed: bytes) -> AsyncIterator[Judge]:
    """Open the judge that measures for itself."""
    whose = judge.Whose(
        panel=(settings.namespace, settings.panel),
        role=settings.role,
        seed=seed,
        stores=settings.stores,
        namespaces=settings.namespaces,
    )
    async with judge.Judge.of(cluster, whose) as opened:
        yield opened


async def serve(settings: Settings, opening: Opening) -> None:
    """Run one agent until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
    async with Cluster.connect() as cluster:
        await agent.run(cluster, settings, partial(opening, cluster, settings), Metrics(), stop)
    _LOGGER.info("drained; the process ends")


def main(arguments: list[str], opening: Opening = judging) -> int:
    """Run until told to end; return the exit code."""
    to_stdout()
    parser = argparse.ArgumentParser(prog="python -m reembed.panel", description=__doc__)
    parser.add_argument("--role", required=True, choices=sorted(ROLES))
    options = parser.parse_args(arguments)
    try:
        settings = from_environment(options.role, os.environ)
        gc.freeze()
        asyncio.run(serve(settings, opening))
    except (SettingsError, NoAccess) as error:
        _LOGGER.error("%s", error)
        return _USAGE
    except BaseExceptionGroup as group:
        if (broken := group.subgroup(BrokenSecret)) is None:
            raise
        _LOGGER.error("%s", broken.exceptions[0])
        return 1
    except BrokenSecret as error:
        _LOGGER.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
