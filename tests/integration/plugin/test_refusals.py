"""What a real API server refuses, as one line on stderr with what to do, and exit code 3."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster import control_plane
from tests.integration.plugin.conftest import Cli, Written
from tests.unit.plugin import stories


def told(cli: Cli, *words: str) -> str:
    code, out, err = cli.run(*words)
    assert (code, out, err.count("\n")) == (3, "", 1)
    return err


async def test_a_mistyped_name(cli: Cli, written: Written) -> None:
    await written.migration("move", stories.PAUSED["status"])
    assert told(cli, "status", "mvoe") == (
        f"error: there is no migration 'mvoe' in namespace '{cli.namespace}'; did you mean 'move'?\n"
    )


async def test_the_wrong_namespace(cli: Cli, written: Written) -> None:
    await written.migration(cli.namespace, stories.PAUSED["status"])
    other = replace(cli, namespace="default")
    assert told(other, "pause", cli.namespace).endswith(f"but in '{cli.namespace}': add -n {cli.namespace}\n")


def test_a_missing_namespace(cli: Cli) -> None:
    assert "there is no namespace 'nowhere'" in told(replace(cli, namespace="nowhere"), "get", "move")


def test_a_server_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{bound.getsockname()[1]}"
        nowhere = replace(cli, kubeconfig=kubeconfig(tmp_path, server, {}))
        error = told(nowhere, "list")
    assert "the API server did not answer" in error
    assert "check the cluster with `kubectl cluster-info`" in error


def test_a_cluster_without_reembed(kube_binary: Path, tmp_path: Path) -> None:
    running = control_plane.start(kube_binary, tmp_path, control_plane.Options())
    try:
        error = told(Cli(running.kubeconfig, "default"), "get", "move")
    finally:
        control_plane.stop(running.programs)
    assert error == (
        "error: the cluster does not know EmbeddingMigrations (reembed.dev/v1alpha1): install Reembed's chart, or name "
        "another cluster with --context\n"
    )


@pytest.fixture
def stranger(cli: Cli, kube_binary: Path, tmp_path: Path) -> Cli:
    """Return the command line of an account without any rights."""

    def kubectl(*words: str) -> str:
        command = [
            str(kube_binary),
            "kubectl",
            f"--kubeconfig={cli.kubeconfig}",
            f"--namespace={cli.namespace}",
            *words,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    kubectl("create", "serviceaccount", "stranger")
    token = kubectl("create", "token", "stranger").strip()
    (cluster,) = json.loads(kubectl("config", "view", "--raw", "--flatten", "-o", "json"))["clusters"]
    return replace(cli, kubeconfig=kubeconfig(tmp_path, cluster["cluster"], {"token": token}))


@pytest.mark.parametrize(
    ("words", "doing"),
    [
        (["get", "move"], "get migration 'move' in namespace"),
        (["list"], "list migrations in namespace"),
        (["list", "-A"], "list migrations in all namespaces"),
        (["abort", "move"], "get migration 'move' in namespace"),
    ],
    ids=["get", "list", "list of all", "abort"],
)
def test_an_account_without_rights(stranger: Cli, words: list[str], doing: str) -> None:
    error = told(stranger, *words)
    assert error.startswith(f"error: you may not {doing}")
    assert "ask its administrator for a Role" in error


def test_an_account_that_is_not_accepted(stranger: Cli, tmp_path: Path) -> None:
    config = json.loads(stranger.kubeconfig.read_text())
    config["users"][0]["user"]["token"] = "outdated"
    stranger.kubeconfig.write_text(json.dumps(config))
    assert "the cluster does not accept your credentials" in told(stranger, "list")


def kubeconfig(folder: Path, cluster: str | dict[str, str], user: dict[str, str]) -> Path:
    path = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": cluster} if isinstance(cluster, str) else cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(config))
    return path
