"""An operator in a process of its own, to be killed as `kill -9` does: nothing of it is handed over."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

import aiohttp

from reembed.cluster.client import Cluster
from reembed.controller.operator import Operator
from reembed.controller.scrape import HttpPods
from reembed.controller.settings import Settings
from reembed.controller.web import Metrics
from tests.integration.controller.running import IMAGES


def _processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    # Imported once: each operator is then forked within milliseconds.
    context.set_forkserver_preload([__name__])
    return context


class Killable:
    """One operator at a time over a namespace, whose pods answer on a port of the loopback."""

    def __init__(self, kubeconfig: str, namespace: str, port: int) -> None:
        self._arguments = (kubeconfig, namespace, port)
        self._context = _processes()
        self._process: BaseProcess | None = None

    def start(self) -> None:
        self._process = self._context.Process(target=_main, args=self._arguments)
        self._process.start()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()


@contextmanager
def killable(kubeconfig: str, namespace: str, port: int) -> Iterator[Killable]:
    running = Killable(kubeconfig, namespace, port)
    running.start()
    try:
        yield running
    finally:
        running.kill()


def _main(kubeconfig: str, namespace: str, port: int) -> None:
    os.environ["KUBECONFIG"] = kubeconfig
    asyncio.run(_run(kubeconfig, namespace, port))


async def _run(kubeconfig: str, namespace: str, port: int) -> None:
    async with Cluster.connect(kubeconfig) as cluster, aiohttp.ClientSession() as session:
        operator = Operator(cluster, HttpPods(session, port), Settings((namespace,), IMAGES), Metrics())
        await operator.run(asyncio.Event())
