"""One replica of the operator in a process of its own, which takes signals as a pod's does.

Run with a kubeconfig, a namespace that holds both the Lease and the objects, the Lease's name and the replica's.
"""

from __future__ import annotations

import asyncio
import os
import sys

import aiohttp

from reembed.cluster.client import Cluster
from reembed.cluster.lease import Lease
from reembed.controller.leading import Candidate, Fenced, Term
from reembed.controller.operator import Operator, Replica
from reembed.controller.scrape import HttpPods
from reembed.controller.settings import Images, Settings
from reembed.controller.signals import obey_signals
from reembed.controller.web import Metrics

IMAGES = Images("embedder:1", "gateway:1", "backfill:1", "IfNotPresent")


async def _main(kubeconfig: str, namespace: str, name: str, identity: str) -> None:
    stop, metrics = asyncio.Event(), Metrics()
    obey_signals(stop)
    async with Cluster.connect(kubeconfig) as cluster, aiohttp.ClientSession() as session:

        def make(term: Term) -> Operator:
            return Operator(Fenced(cluster, term), HttpPods(session), Settings((namespace,), IMAGES), metrics)

        await Replica(Candidate(Lease(cluster, namespace, name), identity), make, metrics).run(stop)


if __name__ == "__main__":
    os.environ["KUBECONFIG"] = sys.argv[1]
    asyncio.run(_main(*sys.argv[1:]))
