"""Which cluster the tests and the demo use, and why there may be none.

CLUSTER names one; without it, root on Linux gets a cluster on this machine, and everybody else one of kind if Docker
runs. `obstacle` is asked before a test run, so that a machine without pods still runs everything else.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from hack.console import works

KINDS = ("local", "kind", "existing")


def cluster(environment: Mapping[str, str]) -> str:
    """Return the kind of cluster to use."""
    if environment.get("CLUSTER"):
        return environment["CLUSTER"]
    return "kind" if obstacle("local") is not None and obstacle("kind") is None else "local"


def obstacle(kind: str) -> str | None:
    """Return why this machine cannot run pods in this kind of cluster, None if it seems that it can."""
    if kind == "local":
        return _local_obstacle()
    if kind == "kind":
        return None if works(["docker", "info"]) else "CLUSTER=kind needs Docker, which is not there or does not answer"
    if kind == "existing":
        reached = works(["kubectl", "get", "--raw", "/readyz"])
        return None if reached else "CLUSTER=existing needs a kubeconfig whose current context leads to a cluster"
    return f"CLUSTER={kind} is none of {', '.join(KINDS)}"


def _local_obstacle() -> str | None:
    if platform.system() != "Linux":
        return f"a cluster on this machine needs Linux, and this is {platform.system()}"
    if os.geteuid() != 0:
        return "a cluster on this machine needs root, and this is a plain user"
    if not works(["unshare", "--pid", "--fork", "--mount", "--net", "true"]):
        return "a cluster on this machine needs namespaces of its own, and this root may not make any"
    return None
