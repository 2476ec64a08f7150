"""A cluster of kind (Kubernetes in Docker), for machines where Docker runs and one is not root: CLUSTER=kind.

Thin on purpose: kind does the work. The project's own checks cannot run it, as they have no Docker; the cluster that
they run is `local.py`. `kind` and `kubectl` are the user's own.
"""

from __future__ import annotations

from hack import packages
from hack.console import run, say
from tests.cluster import layout

_NAME = "reembed"


def up() -> None:
    """Create the kind cluster unless it is there, and leave its kubeconfig below build/."""
    # No Debian package has kind; the message names what to look for.
    packages.ensure({"docker": "docker.io", "kind": "kind", "kubectl": "kubectl"}, "CLUSTER=kind")
    if _NAME in run(["kind", "get", "clusters"]).split():
        say(f"the kind cluster runs already: KUBECONFIG={layout.KUBECONFIG}")
    else:
        run(["kind", "create", "cluster", "--name", _NAME, "--wait", "120s", "--kubeconfig", layout.KUBECONFIG])
    layout.KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
    run(["kind", "export", "kubeconfig", "--name", _NAME, "--kubeconfig", layout.KUBECONFIG])


def down() -> None:
    """Delete the kind cluster; kind says nothing if there is none."""
    run(["kind", "delete", "cluster", "--name", _NAME])
    layout.KUBECONFIG.unlink(missing_ok=True)


def load(image: str) -> None:
    """Bring an image from Docker into the cluster's node."""
    run(["kind", "load", "docker-image", image, "--name", _NAME])
