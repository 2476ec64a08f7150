"""An API server that knows the CRDs, and a namespace with the examples in it; one for each file of tests."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.integration.crds.objects import Kubectl, examples


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
