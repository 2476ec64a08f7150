"""etcd and kube-apiserver: the part of Kubernetes that integration tests need alone and every cluster begins with.

`start` returns once the API server is ready, about three seconds later. Both listen on free ports of the loopback
address and keep everything in one directory, so several can run beside each other and none needs root.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.console import works
from tests.cluster import pki, processes

_LOOPBACK = "127.0.0.1"
_READY_SECONDS = 60


@dataclass(frozen=True)
class Options:
    """What differs between an API server for tests and one for a node with pods."""

    # Where clients reach it. Only an address that is not the loopback's is announced in the Service `kubernetes`.
    address: str = _LOOPBACK
    services: str = "10.198.0.0/16"
    authorization: str = "RBAC"
    # Nothing makes default service accounts without controllers, and pods are refused for want of one.
    without_admission: str = "ServiceAccount"


@dataclass(frozen=True)
class ControlPlane:
    """A running API server, the authority that it trusts, and the administrator's kubeconfig."""

    programs: tuple[processes.Program, ...]
    server: str
    authority: pki.Authority
    kubeconfig: Path


def start(kube: Path, directory: Path, options: Options) -> ControlPlane:
    """Start etcd and the API server in `directory`; raise StartError if they don't come up."""
    authority = pki.Authority.create(directory / "pki")
    etcd_port, api_port = processes.free_port(), processes.free_port()
    server = f"https://{options.address}:{api_port}"
    kubeconfig = client(authority, "admin", "/O=system:masters/CN=admin", server, directory)
    ports = ["--secure-port", str(api_port), "--etcd-servers", f"http://127.0.0.1:{etcd_port}"]
    command = [*_apiserver(kube, authority, options), *ports]
    etcd = processes.start("etcd", _etcd(kube, directory, etcd_port), directory)
    apiserver = processes.start("kube-apiserver", command, directory)
    kubectl: list[str | Path] = [kube, "kubectl", "--kubeconfig", kubeconfig]

    def ready() -> bool:
        return processes.answers(options.address, api_port) and works([*kubectl, "get", "--raw", "/readyz"])

    try:
        processes.wait_until(lambda: processes.answers(_LOOPBACK, etcd_port), etcd, seconds=_READY_SECONDS)
        processes.wait_until(ready, apiserver, seconds=_READY_SECONDS)
    except processes.StartError:
        stop((apiserver, etcd))
        raise
    return ControlPlane((apiserver, etcd), server, authority, kubeconfig)


def stop(programs: tuple[processes.Program, ...]) -> None:
    """Stop the API server, then etcd; nothing they know is needed afterwards, so neither gets long."""
    for program in programs:
        processes.stop(program, seconds=3)


def client(
    authority: pki.Authority, name: str, subject: str, server: str, directory: Path, *, hosts: Sequence[str] = ()
) -> Path:
    """Return a kubeconfig for a client that the API server knows as `subject` (and that itself serves as `hosts`)."""
    certificate, key = authority.issue(name, subject, hosts)
    return pki.write_kubeconfig(directory / f"{name}.kubeconfig", server, authority.certificate, certificate, key)


def _etcd(kube: Path, directory: Path, port: int) -> list[str | Path]:
    clients, peers = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{processes.free_port()}"
    return [
        kube, "etcd", "--data-dir", directory / "etcd", "--unsafe-no-fsync", "--log-level", "warn",
        "--listen-client-urls", clients, "--advertise-client-urls", clients, "--listen-peer-urls", peers,
        "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}",
    ]  # fmt: skip


def _apiserver(kube: Path, authority: pki.Authority, options: Options) -> list[str | Path]:
    first_service = ipaddress.ip_network(options.services)[1]
    hosts = ["DNS:localhost", "DNS:kubernetes.default.svc", f"IP:{first_service}", f"IP:{options.address}"]
    certificate, key = authority.issue("kube-apiserver", "/CN=kube-apiserver", [*hosts, f"IP:{_LOOPBACK}"])
    kubelet_certificate, kubelet_key = authority.issue("kubelet-client", "/O=system:masters/CN=kube-apiserver")
    return [
        kube, "kube-apiserver",
        "--advertise-address", options.address, "--service-cluster-ip-range", options.services,
        "--authorization-mode", options.authorization, f"--disable-admission-plugins={options.without_admission}",
        "--tls-cert-file", certificate, "--tls-private-key-file", key, "--client-ca-file", authority.certificate,
        "--service-account-issuer", "https://kubernetes.default.svc",
        "--service-account-signing-key-file", authority.account_key,
        "--service-account-key-file", authority.account_public_key,
        # The node has no name that resolves; exec and logs go to its address.
        "--kubelet-preferred-address-types", "InternalIP", "--kubelet-certificate-authority", authority.certificate,
        "--kubelet-client-certificate", kubelet_certificate, "--kubelet-client-key", kubelet_key,
        "--endpoint-reconciler-type", "none" if options.address == _LOOPBACK else "lease",
    ]  # fmt: skip
