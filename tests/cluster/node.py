"""The node itself: the first process of its own namespaces, which starts every component and watches over them.

`local.py` starts it through unshare(1) as `python3 -m tests.cluster.node KUBE PAUSE` and writes a line to its standard
input once the virtual cable is in place. If one component ends, this process ends, and as it is the first of its
process namespace the kernel then ends all others, pods included: a half-dead cluster cannot exist.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hack.console import Command, run, works
from tests.cluster import archive, control_plane, layout, processes

_STARTS_SECONDS = 60


def main(kube: Path, pause: Path) -> None:
    """Start the node, say that it is ready, and stay until a component ends."""
    sys.stdin.readline()
    _furnish()
    containerd = _start_containerd()
    control = _start_control_plane(kube)
    archive.pack(pause, archive.PAUSE, layout.STATE / "pause.tar")
    run([*layout.ctr(), "images", "import", layout.STATE / "pause.tar"])
    kubectl: list[str | Path] = [kube, "kubectl", "--kubeconfig", control.kubeconfig]
    run([*kubectl, "apply", "--server-side", "-f", "-"], stdin=layout.render("bootstrap.yaml"))
    kubelet, *others = _start_components(kube, control)
    processes.wait_until(lambda: _runs_pods(kubectl), kubelet, seconds=_STARTS_SECONDS)
    layout.ready().touch()
    _watch([containerd, *control.programs, kubelet, *others])


def _furnish() -> None:
    """Give the namespaces what a machine has: a network that is up, and directories to write to."""
    run(["mount", "--make-rshared", "/"])
    for place in layout.PRIVATE:
        own = layout.STATE / "private" / place.relative_to("/")
        own.mkdir(parents=True)
        run(["mount", "--bind", own, place])
    run(["ip", "link", "set", "lo", "up"])
    run(["ip", "address", "add", f"{layout.NODE}/30", "dev", "eth0"])
    run(["ip", "link", "set", "eth0", "up"])
    # The kubelet looks for a default route. This one ends at the host, which forwards nothing.
    run(["ip", "route", "add", "default", "via", layout.HOST])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _start_containerd() -> processes.Program:
    networks = layout.STATE / "cni"
    networks.mkdir()
    (networks / "10-pods.conflist").write_text(layout.render("10-pods.conflist"))
    _config("containerd.toml")
    containerd = _containerd()
    # Containers of the last cluster died with it. The kubelet would look after them, so they go before it comes.
    left = run([*layout.ctr(), "containers", "list", "-q"]).split()
    if not left:
        return containerd
    run([*layout.ctr(), "containers", "delete", *left])
    processes.stop(containerd)
    layout.socket().unlink(missing_ok=True)
    return _containerd()


def _containerd() -> processes.Program:
    command: list[str | Path] = ["containerd", "--config", layout.STATE / "containerd.toml"]
    containerd = processes.start("containerd", command, layout.STATE)
    processes.wait_until(layout.socket().exists, containerd, seconds=_STARTS_SECONDS)
    return containerd


def _start_control_plane(kube: Path) -> control_plane.ControlPlane:
    options = control_plane.Options(layout.NODE, layout.SERVICES, authorization="Node,RBAC", without_admission="")
    return control_plane.start(kube, layout.STATE, options)


def _start_components(kube: Path, control: control_plane.ControlPlane) -> list[processes.Program]:
    """Start what works through the API server, the kubelet first because it takes longest."""
    node = f"system:node:{layout.NAME}"
    as_node = _client(control, "kubelet", f"/O=system:nodes/CN={node}", hosts=[f"IP:{layout.NODE}"])
    places: list[str | Path] = ["--root-dir", layout.STATE / "kubelet"]
    names = ["--hostname-override", layout.NAME, "--node-ip", layout.NODE]
    alone = ["--leader-elect=false", "--secure-port=0"]
    accounts: list[str | Path] = ["--use-service-account-credentials", "--root-ca-file", control.authority.certificate]
    accounts += ["--service-account-private-key-file", control.authority.account_key]
    # Each controller asks for an account of its own first; at the default rate this alone takes four seconds.
    haste = ["--kube-api-qps=200", "--kube-api-burst=400"]
    plugins: list[str | Path] = ["--flex-volume-plugin-dir", layout.STATE / "volume-plugins"]
    controllers = _client(control, "kube-controller-manager", "/CN=system:kube-controller-manager")
    scheduler = _client(control, "kube-scheduler", "/CN=system:kube-scheduler")
    _client(control, "kube-proxy", "/CN=system:kube-proxy")
    _client(control, "coredns", "/CN=coredns")
    commands: dict[str, list[str | Path]] = {
        "kubelet": ["--config", _config("kubelet.yaml"), "--kubeconfig", as_node, *places, *names],
        "kube-controller-manager": ["--kubeconfig", controllers, *alone, *accounts, *haste, *plugins],
        "kube-scheduler": ["--kubeconfig", scheduler, *alone],
        "kube-proxy": ["--config", _config("kube-proxy.yaml")],
        "coredns": ["-conf", _config("Corefile")],
    }
    return [processes.start(name, [kube, name, *flags], layout.STATE) for name, flags in commands.items()]


def _client(control: control_plane.ControlPlane, name: str, subject: str, *, hosts: list[str] | None = None) -> Path:
    return control_plane.client(control.authority, name, subject, control.server, layout.STATE, hosts=hosts or [])


def _config(name: str) -> Path:
    target = layout.STATE / name
    target.write_text(layout.render(name))
    return target


def _runs_pods(kubectl: Command) -> bool:
    """Say whether a pod that is created now will start: the node is ready and there is an account to run as."""
    ready = '{.items[*].status.conditions[?(@.type=="Ready")].status}'
    node = run([*kubectl, "get", "nodes", "-o", f"jsonpath={ready}"])
    return node == "True" and works([*kubectl, "get", "serviceaccount", "default"])


def _watch(programs: list[processes.Program]) -> None:
    """Reap orphans, as the first process must, until a component ends; then end everything."""
    names = {program.process.pid: program for program in programs}
    while True:
        pid, status = os.wait()
        if pid in names:
            ended, code = names[pid], os.waitstatus_to_exitcode(status)
            sys.exit(f"{ended.name} ended with status {code}:\n{processes.tail(ended.log)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
