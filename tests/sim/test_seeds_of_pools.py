"""Lives of pools that nobody thought of: as many seeds as REEMBED_POOL_SEEDS says, from REEMBED_POOL_FIRST on.

`REEMBED_POOL_FIRST=107 REEMBED_POOL_SEEDS=1` lives the life of seed 107 again; as in `test_seeds`, a failure tells its
script, which makes a file in `scenarios/`.
"""

from __future__ import annotations

import os

import pytest

from reembed.controller.web import Metrics
from tests.sim.seeds_of_pools import script
from tests.sim.simulation import what_broke

# Each is half an hour of a pool, and as much to compute as ten lives of a migration.
_SEEDS = int(os.environ.get("REEMBED_POOL_SEEDS", "80"))
_FIRST = int(os.environ.get("REEMBED_POOL_FIRST", "0"))
_CHUNK = 5


@pytest.mark.parametrize("first", range(_FIRST, _FIRST + _SEEDS, _CHUNK))
def test_every_promise_of_scaling_holds_after_every_event(first: int, metrics: Metrics) -> None:
    seeds = range(first, min(first + _CHUNK, _FIRST + _SEEDS))
    broken = [told for seed in seeds if (told := what_broke(script(seed), f"pools {seed}", metrics))]
    assert not broken, "\n\n".join(broken)
