"""kubectl for one namespace, the examples, and ways to spoil them."""

from __future__ import annotations

import copy
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hack.cache import ROOT

Object = dict[str, Any]

EXAMPLES = ROOT / "examples"
APART = ("adopted/index", "chroma/index")  # indexes that no other example names
ABSENT = object()


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl as the administrator, or with `user` as somebody else."""

    binary: Path
    kubeconfig: Path
    namespace: str
    user: str | None = None

    def run(self, *words: str, stdin: Object | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(self.binary), "kubectl", f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}"]
        impersonation = [f"--as={self.user}"] if self.user is not None else []
        text = json.dumps(stdin) if stdin is not None else ""
        return subprocess.run(
            [*command, *impersonation, *words], check=False, input=text, capture_output=True, text=True
        )

    def ok(self, *words: str, stdin: Object | None = None) -> str:
        """Return what kubectl says; it must succeed."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *words: str, stdin: Object | None = None) -> str:
        """Return why kubectl failed, in one line; it must fail."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode != 0, f"accepted: {done.stdout}"
        return " ".join(done.stderr.split())


def example(name: str) -> Object:
    """Return one of examples/ by its file's path without the suffix."""
    loaded: Object = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    return loaded


def examples() -> list[Object]:
    return [example(name) for name in (*[path.stem for path in sorted(EXAMPLES.glob("*.yaml"))], *APART)]


def changed(name: str, path: str, value: Any) -> Object:
    """Return an example whose field at `path` (`spec.canary.steps.0.weight`) is `value`, or gone if that is ABSENT."""
    result = copy.deepcopy(example(name))
    *parents, last = path.split(".")
    place: Any = result
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
    if value is ABSENT:
        del place[last]
    elif isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return result
