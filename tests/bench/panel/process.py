"""One agent as its image runs it, but for its judge: `python -m tests.bench.panel.process --role ROLE`.

It approves whatever it is asked, at once, so that what is measured is the protocol. In a cluster the pod's account is
mounted; here BENCH_ACCOUNT says where it is.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from reembed.api.panel import Decision
from reembed.cluster import access, client
from reembed.core.quorum.certificates import Choice
from reembed.core.quorum.judging import Judgement
from reembed.core.quorum.membership import Role
from reembed.panel.__main__ import main
from reembed.panel.settings import Settings


class Approving:
    async def run(self) -> None:
        await asyncio.Event().wait()

    def wishes(self, now: datetime, duties: Collection[Role]) -> list[Any]:
        del now, duties
        return []

    async def judge(self, decision: Decision, now: datetime) -> Judgement:
        del decision, now
        return Judgement(Choice.APPROVE, ("Measured: nothing",), {"probes": 32, "errors": 0})


@asynccontextmanager
async def approving(cluster: client.Cluster, settings: Settings, seed: bytes) -> AsyncIterator[Approving]:
    del cluster, settings, seed
    yield Approving()


if __name__ == "__main__":
    client.of_account = partial(access.of_account, Path(os.environ["BENCH_ACCOUNT"]))
    # Which the image does not have.
    sys.modules["kubernetes"] = None  # type: ignore[assignment]
    sys.exit(main(sys.argv[1:], approving))
