"""What happens in a life besides the migration itself, as lines of text: `WHEN: WHAT [for SECONDS]`.

`WHEN` is a number of seconds since the start, or a place in the migration's life (`Canary/1`, `Backfilling`), with
`+SECONDS` where it is meant to be later. `WHAT` is a line of `actions.ACTIONS`. Scenarios are files of such lines, and
a seed is turned into them, so that what a seed found can be written down, and cut short, as a scenario.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a script."""

    what: str
    at: float = 0.0  # after the start, or after `reached`
    reached: str = ""  # a place in the life of the migration `move`
    lasts: float = 0.0  # seconds until it is undone; 0 for what is not undone

    def __str__(self) -> str:
        when = self.reached + (f"+{self.at:g}" if self.at else "") if self.reached else f"{self.at:g}"
        return f"{when}: {self.what}" + (f" for {self.lasts:g}" if self.lasts else "")


@dataclass(frozen=True, slots=True)
class Script:
    """A life: its world, the migration's spec, and what happens."""

    lines: tuple[Line, ...] = ()
    replicas: Mapping[str, int] = field(default_factory=dict)  # of pools and gateway
    spec: Mapping[str, Any] = field(default_factory=dict)
    waits: str = ""  # the reason with which the migration may wait for ever
    within: float = 0.0  # seconds from the start in which it has to end, faults or not
    filled: bool = True  # whether pool `old` serves before
    scales: Mapping[str, Any] = field(default_factory=dict)  # specs of pools that scale, and what drives them
    panel: Mapping[str, str] | None = None  # what agents are who are not honest; None: the operator decides alone
    starts: float = 1.0  # when the migration is applied; below 0 there is none
    operators: int = 1  # replicas; several stand for a Lease

    def __str__(self) -> str:
        head = [f"replicas {json.dumps(dict(self.replicas))}"] if self.replicas else []
        head += [f"spec {json.dumps(dict(self.spec))}"] if self.spec else []
        head += [f"scales {json.dumps(dict(self.scales))}"] if self.scales else []
        head += [f"panel {json.dumps(dict(self.panel))}"] if self.panel is not None else []
        head += [f"starts {self.starts:g}"] if self.starts != 1 else []
        head += [] if self.filled else ["empty"]
        head += [f"operators {self.operators}"] if self.operators > 1 else []
        head += [f"within {self.within:g}"] if self.within else []
        head += [f"waits {self.waits}"] if self.waits else []
        return "\n".join([*head, *map(str, self.lines)])


def parse(text: str) -> Script:
    """Return the script that a text holds; lines that begin with # are for people."""
    found: dict[str, Any] = {}
    lines = []
    for raw in filter(None, (line.strip() for line in text.splitlines())):
        word, _, rest = raw.partition(" ")
        if word in {"replicas", "spec", "scales", "panel"}:
            found[word] = json.loads(rest)
        elif word == "operators":
            found["operators"] = int(rest)
        elif word in {"within", "starts"}:
            found[word] = float(rest)
        elif word == "waits":
            found["waits"] = rest
        elif raw == "empty":
            found["filled"] = False
        elif not raw.startswith("#"):
            lines.append(_line(raw))
    return Script(tuple(lines), **found)


def _line(text: str) -> Line:
    when, _, what = text.partition(": ")
    what, _, lasts = what.partition(" for ")
    reached, _, later = when.partition("+")
    if reached.replace(".", "").isdigit():
        return Line(what, float(reached), "", float(lasts or 0))
    return Line(what, float(later or 0), reached, float(lasts or 0))
