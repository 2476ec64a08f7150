"""Certificates of a test cluster: one authority, one certificate per component, a kubeconfig for each client.

Made by openssl with elliptic keys (a millisecond each, where RSA takes a tenth of a second) and thrown away with the
cluster. Who a component is to the API server is said by the subject of its certificate.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.console import run

_DAYS = "365"


@dataclass(frozen=True)
class Authority:
    """The cluster's own certificate authority; everything it issues lies in one directory."""

    directory: Path

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def account_key(self) -> Path:
        """The private key that signs the tokens of service accounts."""
        return self.directory / "accounts.key"

    @property
    def account_public_key(self) -> Path:
        return self.directory / "accounts.pub"

    @classmethod
    def create(cls, directory: Path) -> Authority:
        directory.mkdir(mode=0o700, parents=True)
        subject = ["-subj", "/CN=reembed-test-cluster", "-days", _DAYS]
        _openssl(directory, "req", "-x509", *_new_key("ca.key"), *subject, "-out", "ca.crt")
        _openssl(directory, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "accounts.key")
        _openssl(directory, "ec", "-in", "accounts.key", "-pubout", "-out", "accounts.pub")
        return cls(directory)

    def issue(self, name: str, subject: str, hosts: Sequence[str] = ()) -> tuple[Path, Path]:
        """Return the certificate and the key of a component that is `subject` and answers as `hosts`."""
        extensions = ["extendedKeyUsage=serverAuth,clientAuth"]
        if hosts:
            extensions.append(f"subjectAltName={','.join(hosts)}")
        (self.directory / f"{name}.ext").write_text("\n".join(extensions) + "\n")
        request = ["-subj", subject, "-out", f"{name}.csr"]
        _openssl(self.directory, "req", *_new_key(f"{name}.key"), *request)
        signer = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", _DAYS, "-extfile", f"{name}.ext"]
        _openssl(self.directory, "x509", "-req", "-in", f"{name}.csr", *signer, "-out", f"{name}.crt")
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"


def write_kubeconfig(target: Path, server: str, authority: Path, certificate: Path, key: Path) -> Path:
    """Write a kubeconfig that names its certificates by path and return where it lies."""
    cluster = {"server": server, "certificate-authority": str(authority)}
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "reembed",
        "contexts": [{"name": "reembed", "context": {"cluster": "reembed", "user": "reembed"}}],
        "clusters": [{"name": "reembed", "cluster": cluster}],
        "users": [{"name": "reembed", "user": user}],
    }
    # JSON is YAML, and the standard library writes it.
    target.write_text(json.dumps(config, indent=1))
    target.chmod(0o600)
    return target


def _new_key(name: str) -> list[str]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", name]


def _openssl(directory: Path, *arguments: str) -> None:
    run(["openssl", *arguments], cwd=directory)
