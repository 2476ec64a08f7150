"""Lives that nobody thought of: as many seeds as REEMBED_SIM_SEEDS says, from REEMBED_SIM_FIRST on.

A failure tells the seed and its script; `REEMBED_SIM_FIRST=107 REEMBED_SIM_SEEDS=1` lives that life again, and the
script makes a file in `scenarios/`.
"""

from __future__ import annotations

import os

import pytest

from reembed.controller.web import Metrics
from tests.sim.seeds import script
from tests.sim.simulation import what_broke

_SEEDS = int(os.environ.get("REEMBED_SIM_SEEDS", "2000"))
_FIRST = int(os.environ.get("REEMBED_SIM_FIRST", "0"))
# Small enough that two workers end at about the same time.
_CHUNK = 25


@pytest.mark.parametrize("first", range(_FIRST, _FIRST + _SEEDS, _CHUNK))
def test_every_promise_holds_after_every_event(first: int, metrics: Metrics) -> None:
    seeds = range(first, min(first + _CHUNK, _FIRST + _SEEDS))
    broken = [told for seed in seeds if (told := what_broke(script(seed), seed, metrics))]
    assert not broken, "\n\n".join(broken)
