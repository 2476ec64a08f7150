"""Asks pods of external pools what the endpoint cost and whether its model is the same; grants what may be spent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reembed.api import InvalidField
from reembed.api.hosted import parse_pod_said
from reembed.controller.scrape import Pods
from reembed.core import hosted
from reembed.core.hosted import HostedStatus, PodSaid
from reembed.core.model import Problem

PATH = "/v1/hosted"
EVERY = timedelta(seconds=10)

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """An external pool that is in use: what its status remembers, its budget and its pods."""

    key: _Key
    remembered: HostedStatus
    budget: int | None
    running: Mapping[str, str]  # name -> address; those that start may say why they don't, those that end still spend
    ready: frozenset[str]  # names of those that may spend more
    alive: frozenset[str]  # names, running or not: what they spent is not counted twice


class Hosting:
    """What is known of each external pool's endpoint, by namespace and name."""

    def __init__(self, scrape: Pods) -> None:
        self._scrape = scrape
        self._looked: dict[_Key, datetime] = {}
        self._known: dict[_Key, HostedStatus] = {}
        self._said: dict[_Key, Mapping[str, PodSaid]] = {}

    def status(self, key: _Key, remembered: HostedStatus) -> HostedStatus:
        """Return what is known; as `remembered` by the pool's status before the first look."""
        return self._known.get(key, remembered)

    def problem(self, key: _Key, budget: int | None) -> Problem | None:
        """Return what people should know of an endpoint."""
        return hosted.problem(self._known[key], budget, self._said[key]) if key in self._known else None

    async def look(self, asked: Asked, now: datetime) -> None:
        """Ask the ready pods and tell them what they may spend, if it is time."""
        key, last = asked.key, self._looked.get(asked.key)
        if last is not None and timedelta(0) <= now - last < EVERY:
            return
        self._looked[key] = now
        said = dict(_parsed(await self._scrape.json(asked.running, PATH))) if asked.running else {}
        known = hosted.seen(self.status(key, asked.remembered), said, asked.alive)
        self._known[key], self._said[key] = known, said
        made = hosted.grants(known, asked.budget, {name: one for name, one in said.items() if name in asked.ready})
        took: list[str] = []
        for name, tokens in made.items():
            body = {"tokens": tokens, "changed": known.doubtful}
            took += await self._scrape.put({name: asked.running[name]}, PATH, body)
        self._known[key] = hosted.granted(known, made, took)

    def forget(self, key: _Key) -> None:
        for held in (self._looked, self._known, self._said):
            held.pop(key, None)


def _parsed(answers: Mapping[str, Any]) -> Iterator[tuple[str, PodSaid]]:
    """Yield what can be understood."""
    for name, answer in answers.items():
        try:
            yield name, parse_pod_said(answer)
        except InvalidField:
            continue
