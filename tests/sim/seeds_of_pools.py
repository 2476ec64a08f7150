"""A life of a pool that scales, by its number: load that comes and goes, and what may go wrong meanwhile.

Either a pod leaks, and the operator can see it, or the operator, its clock, pods and people do what they like.
"""

from __future__ import annotations

from random import Random
from typing import Any

from tests.sim.script import Line, Script

# With the longest window after the last event.
_LASTS = 1500.0
_LATEST = 700.0
# A pod that leaks is known as such after ten minutes, and more where it has used little.
_LEAKS_BY = 300.0
_VARIANTS = (
    [{"name": "cpu", "minReplicas": 1, "maxReplicas": 6}],
    [{"name": "cpu", "minReplicas": 2, "maxReplicas": 4}],
    [{"name": "gpu", "minReplicas": 1, "maxReplicas": 2}, {"name": "cpu", "minReplicas": 0, "maxReplicas": 5}],
    [{"name": "gpu", "minReplicas": 0, "maxReplicas": 3}, {"name": "cpu", "minReplicas": 1, "maxReplicas": 3}],
)
# (how likely, what, seconds until it is over: at least, at most; none for what is not undone)
_LOAD = (6, "load {load}", (20, 400))
_FAULTS = (
    _LOAD,
    (1, "unmeasured old one", (20, 400)),
    (1, "unmeasured old", (20, 400)),
    (2, "crowded old {variant}", (20, 400)),
    (2, "starts late old {variant}", (20, 400)),
    (1, "scaling paused old", (20, 400)),
    (1, "scaled old {variant} 0", (0, 0)),
    (1, "scaled old {variant} 15", (0, 0)),
    (1, "pod lost old", (0, 0)),
    (1, "out of memory old", (0, 0)),
    (1, "operator dies", (0.5, 60)),
    (1, "clock jumps {jump}", (0, 0)),
    (1, "api is down", (5, 60)),
)
_LEAKS = (_LOAD, (3, "leaks old {leak}%", (0, 0)), (1, "crowded old {variant}", (20, 300)))


def script(seed: int) -> Script:
    """Return the life of a seed, without a migration."""
    chance = Random(f"pools {seed}")
    variants: list[dict[str, Any]] = chance.choice(_VARIANTS)
    spec = {"variants": variants, "scaling": {"scaleDownWindow": chance.choice(["1m", "5m"])}}
    faults = _LEAKS if chance.random() < 0.2 else _FAULTS
    lines = [_line(chance, variants, faults) for _ in range(chance.randint(1, 5))]
    return Script(
        lines=(*sorted(lines, key=lambda line: line.at), Line("nothing", at=_LASTS)),
        scales={
            "pools": {"old": spec},
            "driver": chance.choice(["queue", "latency", "memory"]),
            "load": chance.choice([0.3, 0.9, 1.8]),
        },
        starts=-1,
        operators=chance.choice([1, 1, 2]),
    )


def _line(
    chance: Random, variants: list[dict[str, Any]], faults: tuple[tuple[float, str, tuple[float, float]], ...]
) -> Line:
    _, what, (least, most) = chance.choices(faults, [one[0] for one in faults])[0]
    words = {
        "load": f"{chance.uniform(0.1, 6):.1f}",
        "variant": chance.choice(variants)["name"],
        "leak": chance.choice([150, 200, 300]),
        "jump": chance.choice([-90, -5, 5, 90]),
    }
    at = round(chance.uniform(30, _LEAKS_BY if what.startswith("leaks") else _LATEST), 1)
    return Line(what.format(**words), at=at, lasts=round(chance.uniform(least, most), 1))
