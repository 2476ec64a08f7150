"""Tells embedders to work with conservative limits for a while, again and again for as long as that is wanted.

It is a lease: embedders go back to their own limits when nobody renews it, so an operator that dies in the middle of an
emergency leaves no pod slowed down.
"""

from __future__ import annotations

from collections.abc import Iterable

from reembed.cluster import kinds
from reembed.controller import pods
from reembed.controller.cache import Cache
from reembed.controller.scrape import Pods
from reembed.controller.shell import Clock
from reembed.core import names

_PATH = "/v1/emergency"
_SECONDS = 30
# Renewed in good time, though not at every pass.
_EVERY = 8.0


class Protection:
    """The emergencies of all pools."""

    def __init__(self, cache: Cache, scrape: Pods, clock: Clock) -> None:
        self._cache = cache
        self._scrape = scrape
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}

    async def renew(self, namespace: str, pools: Iterable[str]) -> None:
        """Protect the pods of `pools` for half a minute more; one that does not answer is told again soon."""
        now = self._clock().timestamp()
        self._told = {pod: at for pod, at in self._told.items() if 0 <= now - at < _EVERY}
        found: dict[str, str] = {}
        for pool in pools:
            label = {names.LABEL_COMPONENT: "embedder", names.LABEL_POOL: names.fit(pool)}
            found |= pods.addresses(self._cache.all(kinds.POD, namespace, label))
        due = {pod: address for pod, address in found.items() if (namespace, pod) not in self._told}
        answered = await self._scrape.put(due, _PATH, {"seconds": _SECONDS}) if due else ()
        self._told.update({(namespace, pod): now for pod in answered})
