"""The cluster of the user's own kubeconfig: CLUSTER=existing. Nothing is started or stopped, only found.

The project's own checks cannot run this, as they have no such cluster. Images go to REGISTRY (`hack/engines.py`).
"""

from __future__ import annotations

from hack.console import run, say
from tests.cluster import layout


def up() -> None:
    """Check that the current kubeconfig leads to a cluster, and leave a copy of it below build/."""
    config = run(["kubectl", "config", "view", "--minify", "--flatten"])
    run(["kubectl", "get", "--raw", "/readyz"])
    layout.KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
    layout.KUBECONFIG.unlink(missing_ok=True)
    layout.KUBECONFIG.touch(mode=0o600)
    layout.KUBECONFIG.write_text(config)
    say(f"using the cluster of the current context: KUBECONFIG={layout.KUBECONFIG}")


def down() -> None:
    """Forget the cluster; it is the user's and stays as it is."""
    layout.KUBECONFIG.unlink(missing_ok=True)
