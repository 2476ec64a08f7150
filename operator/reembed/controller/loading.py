"""Asks pods that are not ready how far they are with the model's file, so that the pool's status can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from reembed.controller.scrape import Pods
from reembed.core.loading import Loading, problem
from reembed.core.model import Problem

PATH = "/v1/loading"
_EVERY = timedelta(seconds=5)
# What a pod says may be anything, and goes into a status.
_LONGEST = 512


def _text(said: object) -> str:
    return str(said)[:_LONGEST]


_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "source": _text,
    "done": int,
    "size": int,
    "breaker": _text,
    "error": _text,
}


class Loadings:
    """What the pods of each pool said last, by namespace and name."""

    def __init__(self, scrape: Pods) -> None:
        self._scrape = scrape
        self._said: dict[tuple[str, str], tuple[datetime, Problem | None]] = {}

    def of(self, namespace: str, pool: str) -> Problem | None:
        """Return what holds a pool up."""
        return self._said[namespace, pool][1] if (namespace, pool) in self._said else None

    async def look(self, namespace: str, pool: str, starting: Mapping[str, str], now: datetime) -> None:
        """Ask the pods (name -> address) that run and are not ready, if it is time."""
        if not starting:
            self.forget(namespace, pool)
            return
        last = self._said.get((namespace, pool))
        if last is None or not timedelta(0) <= now - last[0] < _EVERY:
            answers = await self._scrape.json(starting, PATH)
            self._said[namespace, pool] = (now, problem(dict(_parsed(answers))))

    def due(self, namespace: str, pool: str) -> timedelta | None:
        """Return in how much time pods are asked again; None if none of them is starting."""
        return _EVERY if (namespace, pool) in self._said else None

    def forget(self, namespace: str, pool: str) -> None:
        self._said.pop((namespace, pool), None)


def _parsed(answers: Mapping[str, Any]) -> Iterator[tuple[str, Loading]]:
    """Yield what can be understood; a pod that fetches nothing says nothing of a source."""
    for pod, said in answers.items():
        try:
            if said["source"]:
                yield pod, Loading(**{name: kind(said[name]) for name, kind in _FIELDS.items()})
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
