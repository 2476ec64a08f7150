"""Which cluster and namespace are meant, as kubectl finds them.

--kubeconfig, else KUBECONFIG, else ~/.kube/config, else the service account of the pod; of a kubeconfig --context,
else its current one; --namespace, else the context's own, else `default`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from reembed.cluster.access import ACCOUNT, Access, NoAccess, in_pod, of_account, of_kubeconfig
from reembed.cluster.client import Cluster
from reembed.plugin.problems import Problem

_DEFAULT = Path.home() / ".kube" / "config"


@dataclass(frozen=True, slots=True)
class Target:
    """What the user said of the cluster; None is "not said"."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None


@asynccontextmanager
async def connect(target: Target) -> AsyncIterator[tuple[Cluster, str]]:
    """Yield the cluster and the namespace that is meant.

    Raises:
        Problem: there is no configuration, or it does not hold what is asked for.

    """
    access, namespace = await _access(target)
    async with Cluster.of(access) as cluster:
        yield cluster, target.namespace or namespace or "default"


async def _access(target: Target) -> tuple[Access, str | None]:
    """Return where the API server is and how to log in, and the configuration's own namespace."""
    path = target.kubeconfig or os.environ.get("KUBECONFIG") or str(_DEFAULT)
    files = _files(path)
    if not files and target.kubeconfig is None and in_pod():
        return of_account(), (ACCOUNT / "namespace").read_text().strip()
    if not files:
        raise Problem(f"there is no kubeconfig at {path}: name one with --kubeconfig or KUBECONFIG")
    try:
        return await of_kubeconfig(os.pathsep.join(files), target.context)
    except NoAccess as error:
        raise Problem(str(error)) from error
    except Exception as error:
        # A broken file fails in as many ways as it can be broken.
        raise Problem(
            f"kubeconfig {path} cannot be used ({error}): `kubectl config get-contexts` lists what it has"
        ) from error


def _files(path: str) -> list[str]:
    """Return the files of a path that are there: KUBECONFIG may name several, which are merged."""
    files = (Path(one).expanduser() for one in path.split(os.pathsep) if one)
    return [str(one) for one in files if one.is_file()]
