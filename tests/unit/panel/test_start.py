"""What an agent is told, and what it does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hack.cache import ROOT
from reembed.core.quorum.membership import Role
from reembed.panel.settings import ROLES, SettingsError, from_environment

ENVIRONMENT = {
    "REEMBED_NAMESPACE": "reembed-panel",
    "REEMBED_AGENT": "memory-analyst",
    "REEMBED_PANEL": "panel",
    "REEMBED_NAMESPACES": "shop, rag",
}


def test_roles_have_the_names_of_their_agents() -> None:
    assert list(ROLES) == [
        "embedding-specialist",
        "memory-analyst",
        "parallelism-optimizer",
        "streaming-loader",
        "embeddings-validator",
        "configuration-manager",
        "pattern-learner",
        "byzantine-coordinator",
    ]


def test_settings_are_read_from_the_environment() -> None:
    found = from_environment("memory-analyst", ENVIRONMENT)
    assert (found.role, found.namespaces, found.account, found.port) == (
        Role.MEMORY_ANALYST,
        ("shop", "rag"),
        "reembed-panel-memory-analyst",
        8080,
    )


@pytest.mark.parametrize("missing", list(ENVIRONMENT))
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(SettingsError, match=f"{missing} not set"):
        from_environment("memory-analyst", {**ENVIRONMENT, missing: ""})


@pytest.mark.parametrize("more", [{"REEMBED_PORT": "http"}, None], ids=["port", "role"])
def test_what_makes_no_sense_is_told(more: dict[str, str] | None) -> None:
    with pytest.raises(SettingsError, match="expected a number" if more else "no role is called"):
        from_environment("memory-analyst" if more else "queen", {**ENVIRONMENT, **(more or {})})


def test_an_idle_agent_loads_nothing_that_it_does_not_need() -> None:
    heavy = ["kopf", "kubernetes", "numpy", "psycopg", "starlette", "uvicorn", "sklearn", "chromadb"]
    code = f"import sys, reembed.panel.__main__; print([one for one in {heavy} if one in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=ROOT / "operator", capture_output=True, text=True
    )
    assert (found.stdout.strip(), found.returncode) == ("[]", 0)
