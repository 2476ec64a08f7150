"""What a store says when it does not do what was asked: each class is another thing for the caller to do."""

from __future__ import annotations

from reembed.core.model import Problem


class StoreError(Exception):
    """The store did not do what was asked. Its text never holds a connection string."""


class StoreUnavailable(StoreError):
    """The store does not answer, or not in time; asking again later may help."""


class StoreSlow(StoreUnavailable):
    """What was asked for took longer than it may; less of it may be had in time."""


class StoreBusy(StoreUnavailable):
    """Somebody holds a lock that is needed; it is not waited for, so that nobody queues up behind the wait."""


class CollectionMismatch(StoreError):
    """The collection is not of this fingerprint, is not indexed, is withdrawn or gone: its answer would be wrong."""


class Unfit(StoreError):
    """What was asked for cannot be done until its owner changes something; `problem` says what."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class FilterRefused(StoreError):
    """A caller's filter names what the index does not list, or a value that its column cannot have."""


class Fenced(StoreError):
    """Another pod took the shard over; this one must stop and must not count as having finished it."""
