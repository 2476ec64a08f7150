"""What random lives are known to find, so that they go on finding other things.

Each entry has a scenario of its own, marked `xfail`; strict as that is, it fails as soon as the operator is mended, and
the entry goes with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.sim.script import Script


@dataclass(frozen=True, slots=True)
class Known:
    """A life that breaks for a reason that is known: by what happens in it, and by what is said then."""

    scenario: str
    happens: tuple[str, ...] = ()  # beginnings of lines that the script has
    says: str = ""

    def explains(self, script: Script, told: str) -> bool:
        lines = [line.what for line in script.lines]
        return self.says in told.splitlines()[0] and all(
            any(line.startswith(begin) for line in lines) for begin in self.happens
        )


KNOWN: tuple[Known, ...] = ()


def known(script: Script, told: str) -> bool:
    return any(one.explains(script, told) for one in KNOWN)
