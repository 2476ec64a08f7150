"""An API server that knows the CRDs, and a namespace with the examples in it; one for each file of tests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.crds import panels
from tests.integration.crds.objects import Kubectl, examples
from tests.integration.crds.releases import account, helm


@pytest.fixture(scope="module")
def kubectl(kube_binary: Path, apiserver_with_crds: Path) -> Kubectl:
    """Return kubectl for a namespace of this file's own."""
    own = Kubectl(kube_binary, apiserver_with_crds, f"crds-{secrets.token_hex(5)}")
    own.ok("create", "namespace", own.namespace)
    return own


@pytest.fixture(scope="module")
def with_examples(kubectl: Kubectl) -> Kubectl:
    """Return kubectl for a namespace that holds all of examples/."""
    for example in examples():
        kubectl.ok("create", "-f", "-", stdin=example)
    return kubectl


@pytest.fixture(scope="module")
def panel(kubectl: Kubectl) -> Iterator[Kubectl]:
    """Return kubectl for the namespace of a panel that the chart has installed, with its policies in force."""
    yield panels.install(kubectl)
    helm(kubectl, "uninstall", "reembed")


@pytest.fixture
def agent(panel: Kubectl) -> Kubectl:
    """Return kubectl as an agent that has been given too many rights."""
    return replace(panel, user=panels.agent_user(panel, panels.ME))


@pytest.fixture
def plain_agent(panel: Kubectl) -> Kubectl:
    """Return kubectl as an agent with the chart's rights."""
    return replace(panel, user=panels.agent_user(panel, panels.OTHER))


@pytest.fixture
def operator(kubectl: Kubectl, panel: Kubectl) -> Kubectl:
    """Return kubectl as the operator in the panel's namespace, with too many rights."""
    return replace(panel, user=account(kubectl, "reembed"))


@pytest.fixture
def cleaner(panel: Kubectl) -> Kubectl:
    return replace(panel, user=panels.GC)
