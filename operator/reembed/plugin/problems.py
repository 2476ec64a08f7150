"""What the API server refuses, in words that say what to do about it.

A `Problem` ends the program with the exit code for usage, absence and API errors; `plugin.__main__` prints it on one
line. Nothing else turns an error of the cluster into text for people.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reembed.api.fields import InvalidField
from reembed.cluster.client import ClusterError
from reembed.core import names


class Problem(Exception):
    """Nothing could be looked at or done; the text says what was found and what to do."""


class Vanished(Problem):
    """The migration was there and is gone."""


_MIGRATIONS = f"get, list, watch and patch of embeddingmigrations.{names.GROUP}"


@contextmanager
def explained(doing: str, namespace: str | None, rights: str = _MIGRATIONS) -> Iterator[None]:
    """Turn what the API server refuses while `doing` into a `Problem`; None means all namespaces."""
    try:
        yield
    except ClusterError as error:
        raise Problem(_explain(error, doing, namespace, rights)) from error
    except InvalidField as error:
        text = f"{error}: this was written by a version that this plugin does not know; upgrade the plugin"
        raise Problem(text) from error


def passing(problem: Problem) -> bool:
    """Return whether asking again may help: the server did not answer, or was overloaded."""
    cause = problem.__cause__
    return isinstance(cause, ClusterError) and (cause.status in {0, 429} or cause.status >= 500)


def _explain(error: ClusterError, doing: str, namespace: str | None, rights: str) -> str:
    where = f"in namespace {namespace!r}" if namespace is not None else "in all namespaces"
    if error.status == 0:
        return f"{error}: check the cluster with `kubectl cluster-info`, or name another with --context or --kubeconfig"
    if error.status == 401:
        return f"the cluster does not accept your credentials ({error}): log in again, or use another --context"
    if error.status == 403:
        return f"you may not {doing} {where} ({error}): ask its administrator for a Role with {rights}"
    if error.status == 404 and rights is _MIGRATIONS:
        return (
            f"the cluster does not know EmbeddingMigrations ({names.GROUP}/{names.VERSION}): install Reembed's chart, "
            "or name another cluster with --context"
        )
    return f"could not {doing} {where}: {error}"
