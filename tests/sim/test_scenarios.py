"""Lives with a story: each file of `scenarios/` is a script, and below `----` what becomes of the migration.

The first line says what is claimed. `REEMBED_SIM_REWRITE=1` writes what happened in place of what was expected; whoever
does that reads the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reembed.controller.web import Metrics
from tests.sim.script import parse
from tests.sim.simulation import Outcome, simulate


def _scenario(file: Path) -> object:
    """A second line `# xfail: WHY` is for what the operator does wrong and is not mended yet."""
    found = [line.partition("xfail: ")[2] for line in file.read_text().splitlines() if line.startswith("# xfail: ")]
    marks = [pytest.mark.xfail(strict=True, reason=found[0])] if found else []
    return pytest.param(file, id=file.stem, marks=marks)


_FILES = [_scenario(file) for file in sorted((Path(__file__).parent / "scenarios").glob("*.txt"))]
_SEED = 1


@pytest.mark.parametrize("file", _FILES)
def test_a_life_goes_as_its_story_tells(file: Path, metrics: Metrics) -> None:
    text, _, expected = file.read_text().partition("----\n")
    found = told(simulate(parse(text), _SEED, metrics))
    if os.environ.get("REEMBED_SIM_REWRITE"):
        file.write_text(f"{text.rstrip()}\n----\n{found}")
    else:
        assert found == expected


def told(outcome: Outcome) -> str:
    lines = {
        "states": " ".join(outcome.states),
        "reason": outcome.reason,
        "weights": " ".join(map(str, outcome.weights)),
        "serves": outcome.serves or "nothing",
        "store": ", ".join(f"{side} {state}" for side, state in outcome.collections),
    }
    return "".join(f"{name}: {text}\n" for name, text in lines.items())
