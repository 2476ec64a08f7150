"""A pod logs in with what is mounted into it, and goes on when that is replaced."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from reembed.cluster.access import NoAccess, of_account

HERE = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """What the kubelet mounts; any authority will do."""
    bundle = ssl.get_default_verify_paths().cafile
    assert bundle is not None
    (tmp_path / "ca.crt").write_text(Path(bundle).read_text())
    (tmp_path / "token").write_text("first\n")
    return tmp_path


@pytest.mark.parametrize(
    ("host", "server"),
    [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")],
    ids=["IPv4", "IPv6"],
)
async def test_a_pod_asks_the_server_of_its_own_cluster(account: Path, host: str, server: str) -> None:
    access = of_account(account, {**HERE, "KUBERNETES_SERVICE_HOST": host})
    assert (access.server, access.tls.verify_mode, await access.authorization()) == (
        server,
        ssl.CERT_REQUIRED,
        "Bearer first",
    )


async def test_a_token_that_was_replaced_is_used_within_a_minute(account: Path) -> None:
    seconds = [0.0]
    access = of_account(account, HERE, lambda: seconds[0])
    (account / "token").write_text("second")
    seconds[0] = 60.0
    before = await access.authorization()
    seconds[0] = 61.0
    assert (before, await access.authorization()) == ("Bearer first", "Bearer second")


def test_what_keeps_a_pod_from_logging_in_is_told(tmp_path: Path, account: Path) -> None:
    (account / "token").unlink()
    with pytest.raises(NoAccess, match=r"no service account to log in with .*token"):
        of_account(account, HERE)
    with pytest.raises(NoAccess, match="outside of a pod, name a kubeconfig"):
        of_account(account, {})
