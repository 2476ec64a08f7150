"""The API server takes the documented hooks and refuses those that could never run, naming the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cache import ROOT
from tests.integration.crds.objects import Kubectl, changed

JOB = {"cronJobRef": {"name": "smoke-test"}}
HTTP = {"url": "https://hooks.example/in"}


@pytest.fixture
def kubectl(kube_binary: Path, apiserver_with_crds: Path, namespace: str) -> Kubectl:
    return Kubectl(kube_binary, apiserver_with_crds, namespace)


def documented() -> list[dict[str, Any]]:
    """Return the hooks that docs/hooks.md begins with."""
    block = (ROOT / "docs/hooks.md").read_text().split("```yaml\n")[1].split("```")[0]
    hooks: list[dict[str, Any]] = yaml.safe_load(block)["spec"]["hooks"]
    return hooks


def hook(**fields: Any) -> dict[str, Any]:
    return {"name": "announce", "when": "Pre", **fields}


def test_the_documented_hooks_are_taken(kubectl: Kubectl) -> None:
    assert "created" in kubectl.ok("create", "-f", "-", stdin=changed("migration", "spec.hooks", documented()))


@pytest.mark.parametrize("policy", [{}, {"failurePolicy": "Ignore"}], ids=["left out", "Ignore"])
@pytest.mark.parametrize("when", ["Post", "Rollback"])
def test_a_hook_after_the_fact_may_only_be_ignored(kubectl: Kubectl, when: str, policy: dict[str, str]) -> None:
    after = changed("migration", "spec.hooks", [hook(http=HTTP, when=when, **policy)])
    kubectl.ok("create", "--dry-run=server", "-f", "-", stdin=after)


@pytest.mark.parametrize(
    ("hooks", "text"),
    [
        pytest.param([hook(http=HTTP, job=JOB)], "a hook has either http or job", id="both"),
        pytest.param([hook()], "a hook has either http or job", id="neither"),
        pytest.param([hook(http={"url": "hooks.example/in"})], "spec.hooks[0].http.url", id="no scheme"),
        pytest.param([hook(http={"url": "ftp://hooks.example"})], "spec.hooks[0].http.url", id="another scheme"),
        pytest.param([hook(http={"url": "https:///in"})], "spec.hooks[0].http.url", id="no host"),
        pytest.param([hook(http=HTTP | {"retries": 11})], "less than or equal to 10", id="too many retries"),
        pytest.param([hook(http=HTTP, timeout="0s")], "spec.hooks[0].timeout", id="no time at all"),
        pytest.param([hook(http=HTTP, timeout="soon")], "spec.hooks[0].timeout", id="no duration"),
        pytest.param([hook(http=HTTP), hook(job=JOB)], "Duplicate value", id="the same name twice"),
        pytest.param([hook(http=HTTP, name="Announce it")], "spec.hooks[0].name", id="no name for a Job"),
        pytest.param([hook(job={"template": {}})], 'unknown field "spec.hooks[0].job.template"', id="a pod of its own"),
        pytest.param(
            [hook(http=HTTP, when="Post", failurePolicy="Fail")], "nothing is left to fail", id="Fail after Post"
        ),
        pytest.param([hook(job=JOB, when="Rollback", failurePolicy="Fail")], "set Ignore", id="Fail after Rollback"),
        pytest.param([hook(http=HTTP, when="Before")], 'supported values: "Pre", "EachStep"', id="no such moment"),
    ],
)
def test_a_hook_that_could_never_run_is_refused(kubectl: Kubectl, hooks: list[dict[str, Any]], text: str) -> None:
    words = ("create", "--dry-run=server", "-f", "-")
    assert text in kubectl.refused(*words, stdin=changed("migration", "spec.hooks", hooks))
