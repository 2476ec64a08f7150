"""A page of metrics in Prometheus' text format 0.0.4, as our own pods write it: the lines that somebody reads.

prometheus_client's own parser reads whole pages, with everything that a page may hold; it would be most of what an
operator of a hundred migrations does.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_FORM = re.compile(rf"(?P<name>\w+)(?:\{{(?P<labels>(?:{_LABEL.pattern},?)*)\}})?")
_ESCAPED = re.compile(r"\\(.)")
# Each pod tells the same series at every look. A series is a third of a KiB.
_SERIES = 16_384

# Name, labels and value.
Sample = tuple[str, Mapping[str, str], float]


def lines(page: str, read: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of the series whose names begin with one of `read`."""
    yield from (line for line in page.split("\n") if line.startswith(read))


def sample(line: str) -> Sample | None:
    """Return what a line says, None if that is no number: it was not measured.

    Raises:
        ValueError: the line is none of the format.

    """
    series, _, value = line.rpartition(" ")
    try:
        number = float(value)
        return (*_series(series), number) if math.isfinite(number) else None
    except ValueError as error:
        raise ValueError(f"not a line of Prometheus' text format: {line[:200]!r}") from error


@lru_cache(maxsize=_SERIES)
def _series(text: str) -> tuple[str, Mapping[str, str]]:
    """Return name and labels of a series."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"not a series: {text[:200]!r}")
    labels = {sys.intern(name): sys.intern(_plain(value)) for name, value in _LABEL.findall(found["labels"] or "")}
    return sys.intern(found["name"]), labels


def _plain(value: str) -> str:
    return _ESCAPED.sub(lambda one: {"n": "\n"}.get(one[1], one[1]), value) if "\\" in value else value
