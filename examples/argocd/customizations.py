"""Print a patch of Argo CD's ConfigMap `argocd-cm` with the health checks and actions beside this file."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent
VERBS = ("abort", "pause", "resume", "promote", "retry")


def actions(kind: Path) -> str:
    definitions = [{"name": verb, "action.lua": (kind / f"{verb}.lua").read_text()} for verb in VERBS]
    # JSON is YAML, and needs no library.
    return json.dumps({"discovery.lua": (kind / "discovery.lua").read_text(), "definitions": definitions})


def patch() -> dict[str, dict[str, str]]:
    data = {
        f"resource.customizations.health.reembed.dev_{kind.name}": (kind / "health.lua").read_text()
        for kind in sorted(HERE.iterdir())
        if kind.is_dir()
    }
    data["resource.customizations.actions.reembed.dev_EmbeddingMigration"] = actions(HERE / "EmbeddingMigration")
    return {"data": data}


if __name__ == "__main__":
    print(json.dumps(patch(), indent=2))  # noqa: T201
