"""Which cluster and namespace are meant, as kubectl finds them.

--kubeconfig, else KUBECONFIG, else ~/.kube/config, else the service account of the pod; of a kubeconfig --context,
else its current one; --namespace, else the context's own, else `default`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from reembed.cluster.client import Cluster
from reembed.plugin.problems import Problem

_DEFAULT = Path.home() / ".kube" / "config"
_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


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
    settings = Configuration()
    namespace = await _configure(settings, target)
    async with ApiClient(settings) as api:
        yield Cluster(api), target.namespace or namespace or "default"


async def _configure(settings: Configuration, target: Target) -> str | None:
    """Fill in where the API server is and how to log in, and return the configuration's own namespace."""
    # The client library reads the variable when it is imported, which is too early for whoever sets it later.
    path = target.kubeconfig or os.environ.get("KUBECONFIG") or str(_DEFAULT)
    files = _files(path)
    if not files and target.kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config(client_configuration=settings)
        return _account_namespace()
    if not files:
        raise Problem(f"there is no kubeconfig at {path}: name one with --kubeconfig or KUBECONFIG")
    try:
        loaded = await config.load_kube_config(
            config_file=os.pathsep.join(files),
            context=target.context,
            client_configuration=settings,
            persist_config=False,
        )
    except Exception as error:
        # A broken file fails in as many ways as it can be broken.
        raise Problem(
            f"kubeconfig {path} cannot be used ({error}): `kubectl config get-contexts` lists what it has"
        ) from error
    current: Mapping[str, Any] = loaded.current_context
    namespace: str | None = (current.get("context") or {}).get("namespace")
    return namespace


def _files(path: str) -> list[str]:
    """Return the files of a path that are there: KUBECONFIG may name several, which are merged."""
    files = (Path(one).expanduser() for one in path.split(os.pathsep) if one)
    return [str(one) for one in files if one.is_file()]


def _account_namespace() -> str:
    return _ACCOUNT_NAMESPACE.read_text().strip()
