"""Which cluster and namespace are meant: as kubectl finds them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reembed.plugin.connection import Target, connect
from reembed.plugin.problems import Problem


def kubeconfig(folder: Path, **namespaces: str | None) -> str:
    """Write a kubeconfig with a context of each name, the first one current, and return its path."""
    contexts = [
        {"name": name, "context": {"cluster": "c", "user": "u", **({"namespace": where} if where else {})}}
        for name, where in namespaces.items()
    ]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": contexts,
        "current-context": next(iter(namespaces)),
    }
    path = folder / "-".join(namespaces)
    path.write_text(json.dumps(config))
    return str(path)


@pytest.fixture(autouse=True)
def outside_of_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)


async def namespace_of(target: Target) -> str:
    async with connect(target) as (_, namespace):
        return namespace


@pytest.mark.parametrize(
    ("context", "namespace", "meant"),
    [(None, None, "of-a"), ("b", None, "default"), ("a", "own", "own"), ("b", "own", "own")],
)
async def test_the_namespace_is_the_named_one_else_the_contexts_else_default(
    tmp_path: Path, context: str | None, namespace: str | None, meant: str
) -> None:
    path = kubeconfig(tmp_path, a="of-a", b=None)
    assert await namespace_of(Target(path, context, namespace)) == meant


async def test_files_of_the_environment_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [kubeconfig(tmp_path, a="of-a"), str(tmp_path / "missing"), kubeconfig(tmp_path, b="of-b")]
    monkeypatch.setenv("KUBECONFIG", ":".join(paths))
    assert await namespace_of(Target(context="b")) == "of-b"


async def test_a_named_file_goes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, a="of-a"))
    assert await namespace_of(Target(kubeconfig(tmp_path, b="of-b"))) == "of-b"


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"there is no kubeconfig at .*/none: name one with --kubeconfig"):
        await namespace_of(Target(str(tmp_path / "none")))


async def test_a_missing_context_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"name prod .*`kubectl config get-contexts` lists"):
        await namespace_of(Target(kubeconfig(tmp_path, a=None), "prod"))


async def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_text("- nothing\n")
    with pytest.raises(Problem, match=r"kubeconfig .*/broken cannot be used"):
        await namespace_of(Target(str(path)))
