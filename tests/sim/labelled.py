"""Labelled queries that the store worker puts to both sides while a candidate answers: the losses of one, as sums."""

from __future__ import annotations

import asyncio

from tests.sim.api_server import Object

LABELLED = 50.0
# Square of what single queries differ by, beside the mean.
_SPREAD = 0.01


class Labelled:
    """A sample of one comparison at a time, which begins anew with the next."""

    def __init__(self) -> None:
        self.loss = 0.0  # of MRR
        self.per_second = LABELLED
        self._id = ""
        self._watched = False
        self._since = 0.0
        self._sums = (0.0, 0.0, 0.0)

    def watch(self, name: str) -> None:
        """Compare for a plan from now on; an empty name is nobody's."""
        self._count()
        if name and name != self._id:
            self._id, self._sums = name, (0.0, 0.0, 0.0)
        self._watched = bool(name)

    def change(self, **fields: float) -> None:
        self._count()
        for name, value in fields.items():
            setattr(self, name, value)

    def count(self, name: str) -> float:
        """Return how many queries were put to both sides for a plan."""
        self._count()
        return self._sums[0] if name == self._id else 0.0

    def report(self, name: str) -> Object | None:
        """Return what the worker says of a plan, None before there is anything."""
        count, total, squares = (self.count(name), *self._sums[1:])
        return {"count": int(count), "total": total, "squares": squares} if count >= 1 else None

    def _count(self) -> None:
        now = asyncio.get_running_loop().time()
        seen = (now - self._since) * self.per_second if self._watched else 0.0
        count, total, squares = self._sums
        self._since = now
        self._sums = (count + seen, total + seen * self.loss, squares + seen * (self.loss**2 + _SPREAD))
