"""kopf's watches of one namespace, from their start to their first failure.

Each namespace has kopf to itself: kopf ends all its watches when one of them fails, and a namespace without rights must
not end those of another. Its tasks are run here and not by `kopf.operator`, which cancels every task that is younger
than itself when it ends, our loops among them.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import kopf

from reembed.controller.cache import Cache
from reembed.controller.handlers import register
from reembed.controller.loop import Loops
from reembed.controller.tasks import end

# Pauses between kopf's tries of one request, in seconds. After the last, the namespace is listed and watched anew.
_BACKOFFS = (1.0, 2.0, 4.0, 8.0)
# A watch needs up to two seconds to end.
_AGAIN = 2.5


async def watch(namespace: str, cache: Cache, loops: Loops, stop: asyncio.Event) -> None:
    """Watch `namespace` until a watch fails, which is raised, or this is cancelled."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)
    register(registry, cache, loops)
    tasks = await kopf.spawn_tasks(
        registry=registry, settings=_settings(), namespaces=(namespace,), standalone=True, stop_flag=stop
    )
    obey_signals(stop)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(tasks, again=_AGAIN)
    for task in done:
        task.result()
    stop.set()  # without a failure, kopf ends only if it was faster than `obey_signals` at taking a signal


def obey_signals(stop: asyncio.Event) -> None:
    """Have SIGTERM and SIGINT set `stop`; to be said again whenever kopf has begun, as it takes both for itself."""
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in as the pod's account, or as a developer's own configuration says."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # no rights on namespaces and CRDs are needed
    settings.posting.enabled = False  # events are posted by `controller.writer`
    settings.networking.request_timeout = 30  # the default of five minutes would look like a freeze
    settings.networking.error_backoffs = _BACKOFFS
    settings.watching.server_timeout = 60
    settings.queueing.worker_limit = 100
    # Else it would kill the process ten minutes after the watches of one namespace failed.
    settings.process.ultimate_exiting_timeout = None
    return settings
