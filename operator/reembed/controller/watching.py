"""kopf's watches of one namespace, from their start to their first failure.

Each namespace has kopf to itself: kopf ends all its watches when one of them fails, and a namespace without rights must
not end those of another. Its tasks are run here and not by `kopf.operator`, which cancels every task that is younger
than itself when it ends, our loops among them.

Every event changes the cache, and no handler does anything else. kopf keeps no state of ours: no daemon, timer or
change-detecting handler exists, so it adds neither its finalizer nor its annotations to anybody's objects.
"""

from __future__ import annotations

import asyncio
from typing import Any

import kopf

from reembed.cluster.kinds import Kind
from reembed.controller.cache import Cache
from reembed.controller.handlers import CHILD_LABELS, CHILDREN, OWN, seen
from reembed.controller.signals import obey_signals
from reembed.controller.tasks import end

# Pauses between kopf's tries of one request, in seconds. After the last, the namespace is listed and watched anew.
_BACKOFFS = (1.0, 2.0, 4.0, 8.0)
# A watch needs up to two seconds to end.
_AGAIN = 2.5


async def watch(namespace: str, cache: Cache, stop: asyncio.Event) -> None:
    """Watch `namespace` until a watch fails, which is raised, or this is cancelled."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)
    register(registry, cache)
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


def register(registry: kopf.OperatorRegistry, cache: Cache) -> None:
    """Watch our kinds, and what carries our label of the others."""
    for kind in OWN:
        _register(registry, kind, cache, labels=None)
    for kind in CHILDREN:
        _register(registry, kind, cache, labels=CHILD_LABELS)


def _register(registry: kopf.OperatorRegistry, kind: Kind, cache: Cache, labels: dict[str, str] | None) -> None:
    # A coroutine: kopf runs plain functions in threads, where loops must not be woken.
    async def changed(*, event: kopf.RawEvent, **_: Any) -> None:
        seen(kind, event["type"], dict(event["object"]), cache)

    kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, labels=labels, id=kind.plural)(changed)


class _NoDifferences(kopf.DiffBaseStorage):
    """Keeps kopf from copying each object for handlers of differences, of which there are none here."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        return


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in as the pod's account, or as a developer's own configuration says."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # no rights on namespaces and CRDs are needed
    settings.posting.enabled = False  # events are posted by `controller.writer`
    settings.networking.request_timeout = 30  # the default of five minutes would look like a freeze
    settings.networking.error_backoffs = _BACKOFFS
    # A watch ends in an hour; one that falls silent, without even the bookmark of each minute, far earlier.
    settings.watching.server_timeout = 3600
    settings.watching.inactivity_timeout = 90
    settings.watching.chunk_size = 100  # a long list at once would fill the memory
    # A worker keeps its place for as long as it idles: with the default of five seconds, of many objects that change at
    # once most would wait for the first ones.
    settings.queueing.worker_limit = 50
    settings.queueing.idle_timeout = 0.02
    settings.persistence.diffbase_storage = _NoDifferences()
    # Else it would kill the process ten minutes after the watches of one namespace failed.
    settings.process.ultimate_exiting_timeout = None
    return settings
