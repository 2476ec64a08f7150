"""Names, addresses and places of the single-node cluster, in one place for the host's side and the node's side.

The node lives in a network namespace of its own. One virtual cable (`LINK`) leads there, and the host's routes to pods
and services go through it, so that a test on the host talks to a Service as a pod does. The ranges are rarely used
ones: a company's network or Docker seldom has them.
"""

from __future__ import annotations

from pathlib import Path
from string import Template

from hack.cache import CACHE, ROOT

STATE = CACHE / "cluster"
IMAGES = CACHE / "containerd"
KUBECONFIG = ROOT / "build" / "cluster" / "kubeconfig"
PROGRAMS = ROOT / "build" / "bin"

NAME = "node1"
LINK = "reembed0"
HOST = "10.196.0.1"
NODE = "10.196.0.2"
PODS = "10.197.0.0/24"
SERVICES = "10.198.0.0/16"
DNS = "10.198.0.10"
CGROUP = "reembed-test"

# containerd, the kubelet and the network plugins write here whatever they are told. In the node's mount namespace
# something of its own lies over each, so that the host never sees it and a containerd of the host is not disturbed.
PRIVATE = tuple(
    Path(name)
    for name in (
        "/opt/containerd",
        "/run/containerd",
        "/run/netns",
        "/var/lib/cni",
        "/var/lib/kubelet",
        "/var/log/containers",
        "/var/log/pods",
    )
)

_TEMPLATES = Path(__file__).resolve().parent / "config"


def socket() -> Path:
    """Return containerd's socket, which is reached from the host as well."""
    return STATE / "containerd.sock"


def ctr() -> list[str | Path]:
    """Return containerd's own client, told where containerd is and what Kubernetes calls its part of it."""
    return ["ctr", "--address", socket(), "--namespace", "k8s.io"]


def ready() -> Path:
    """Return the file that exists once the node runs pods."""
    return STATE / "ready"


def render(name: str) -> str:
    """Return a configuration file of `config/` with this machine's places filled in."""
    values = {
        "STATE": str(STATE),
        "IMAGES": str(IMAGES),
        "NAME": NAME,
        "NODE": NODE,
        "PODS": PODS,
        "DNS": DNS,
        "CGROUP": CGROUP,
    }
    return Template((_TEMPLATES / name).read_text()).substitute(values)
