"""Chance, all of it from one seed, with a stream of its own for everything that has a name.

What happens to one object or pod does not hang on the order in which others are looked at: that order may differ from
process to process (sets of strings), and a seed has to mean the same life everywhere.
"""

from __future__ import annotations

from random import Random


class Chances:
    """Random streams by name."""

    def __init__(self, seed: int | str) -> None:
        self._seed = seed
        self._streams: dict[str, Random] = {}

    def of(self, *names: str) -> Random:
        name = "/".join(names)
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = Random(f"{self._seed}/{name}")
        return stream
