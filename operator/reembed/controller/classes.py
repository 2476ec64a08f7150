"""Keeps what makes the pods of one model one class: what the first of them said, in a ConfigMap that never changes.

It belongs to a fingerprint in a namespace and has no owner: a pool that is made again meets the vectors that are
stored. Pods mount it by its name and compare themselves (`embedder.membership`); here it is only made. Whether it is
there is asked when a pool has a ready pod that it did not have before, so that an idle fleet costs nothing, and a class
that was deleted with its pods begins anew. Whatever fails is tried again; a pool's size never waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reembed.api import InvalidField
from reembed.api.model_class import parse_class_said
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError, Conflict
from reembed.controller.manifests import model_class
from reembed.controller.scrape import Pods
from reembed.core import names
from reembed.core.model_class import ModelClass, first

PATH = "/v1/class"
EVERY = timedelta(minutes=1)  # if it could not be made
_MANAGER = "reembed-classes"

_LOGGER = logging.getLogger("reembed.controller")

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """A pool in use whose pods run its model."""

    key: _Key  # its namespace and name
    fingerprint: str
    ready: Mapping[str, str]  # pods: name -> address


class Classes:
    """Which pools' classes are kept, by namespace and name."""

    def __init__(self, cluster: Cluster, scrape: Pods) -> None:
        self._cluster = cluster
        self._scrape = scrape
        self._kept: dict[_Key, frozenset[str]] = {}  # the ready pods when that was last seen to be so
        self._tried: dict[_Key, datetime] = {}

    def kept(self, key: _Key) -> bool:
        return key in self._kept

    async def look(self, asked: Asked, now: datetime) -> None:
        """See to it that a class is kept, if a pod is new and it was not tried lately."""
        key, last = asked.key, self._tried.get(asked.key)
        if not self._new(asked) or (last is not None and timedelta(0) <= now - last < EVERY):
            return
        self._tried[key] = now
        try:
            kept = await self._keep(asked)
        except ClusterError as error:
            text = "the class of pool %s/%s is not kept yet: %s; its pods serve, and it is tried again"
            _LOGGER.warning(text, *key, error)
            return
        if kept:
            self._kept[key] = frozenset(asked.ready)
        else:
            self._kept.pop(key, None)

    def due(self, asked: Asked) -> timedelta | None:
        """Return in how much time to look again, None if nothing is to be done until a pod is new."""
        return EVERY if self._new(asked) else None

    def forget(self, key: _Key) -> None:
        self._kept.pop(key, None)
        self._tried.pop(key, None)

    def _new(self, asked: Asked) -> bool:
        return not asked.ready.keys() <= self._kept.get(asked.key, frozenset())

    async def _keep(self, asked: Asked) -> bool:
        """Make the ConfigMap of a class that has none; return whether there is one."""
        namespace, name = asked.key[0], names.model_class(asked.fingerprint)
        if await self._cluster.get(kinds.CONFIG_MAP, namespace, name) is not None:
            return True
        found = first(dict(_parsed(await self._scrape.json(asked.ready, PATH))), asked.fingerprint)
        if found is None:  # engines of an older version do not say it
            _LOGGER.debug("no pod of pool %s/%s says of which class it is; they are asked again", *asked.key)
            return False
        try:
            made = model_class.config_map(namespace, found)
            await self._cluster.create(kinds.CONFIG_MAP, namespace, made, manager=_MANAGER)
        except Conflict:
            return True  # somebody was first, and what that one said holds
        _LOGGER.info("pod %s is the first of the class of %s in %s", found.pod, found.fingerprint, namespace)
        return True


def _parsed(answers: Mapping[str, Any]) -> Iterator[tuple[str, ModelClass]]:
    """Yield what can be understood."""
    for pod, answer in answers.items():
        try:
            yield pod, parse_class_said(answer, pod)
        except InvalidField:
            continue
