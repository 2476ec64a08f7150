"""Texts of Python's own standard library: short ones as queries are, functions as documents are, and a mixture.

No text has more than the 256 tokens that the embedder of the demonstration's model reads: one that is cut by one server
and read to its end by another would be less work for the first.
"""

from __future__ import annotations

import ast
import random
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

MAX_TOKENS = 256
# Tokens with the two special ones.
_SHORT, _MEDIUM, _LONG = range(14, 49), range(60, 121), range(200, MAX_TOKENS + 1)
# What every text of the kind `equal` has: that of a paragraph.
EQUAL_TOKENS = 64
# Half of what a gateway asks for are short texts.
_MIXTURE = {"short": 5, "medium": 3, "long": 2}
_PER_KIND = 1_200

Count = Callable[[str], int]


def texts(count: Count) -> dict[str, list[str]]:
    """Return short, medium, long, mixed and equally long texts, the same ones at each call; `count` gives tokens."""
    found = list(dict.fromkeys(_functions()))
    random.Random(1).shuffle(found)
    summaries = list(dict.fromkeys(summary for _, summary in found if summary))
    sources = list(dict.fromkeys(source for source, _ in found))
    kinds = {
        "short": _first(summaries, _SHORT, count),
        "medium": _first(sources, _MEDIUM, count),
        "long": _first((cut(source, MAX_TOKENS, count) for source in sources), _LONG, count),
    }
    equal = (cut(source, EQUAL_TOKENS, count) for source in sources)
    return {
        **kinds,
        "mixed": mixture(kinds, random.Random(2)),
        "equal": _first(equal, range(EQUAL_TOKENS, EQUAL_TOKENS + 1), count),
    }


def mixture(kinds: Mapping[str, Sequence[str]], rng: random.Random) -> list[str]:
    """Return texts of all kinds by their shares, none of them twice."""
    unit = min(len(kinds[name]) // share for name, share in _MIXTURE.items())
    mixed = [text for name, share in _MIXTURE.items() for text in kinds[name][: unit * share]]
    rng.shuffle(mixed)
    return mixed


def cut(text: str, most: int, count: Count) -> str:
    """Return the longest beginning of a text that has so many tokens, or the whole text."""
    # A token of code has some four characters, white space counted.
    low, high = 0, min(len(text), 20 * most)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(text[:middle]) <= most else (low, middle - 1)
    return text[:low]


def _first(some: Sequence[str] | Iterator[str], tokens: range, count: Count) -> list[str]:
    found: dict[str, None] = {}
    for text in some:
        if text.strip() and count(text) in tokens:
            found[text] = None
        if len(found) == _PER_KIND:
            break
    return list(found)


def _functions() -> Iterator[tuple[str, str]]:
    """Yield each function's source and the first paragraph of its docstring."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        source = path.read_text(errors="replace")
        lines = source.splitlines(keepends=True)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                segment = "".join(lines[node.lineno - 1 : node.end_lineno])
                yield segment, (ast.get_docstring(node) or "").split("\n\n")[0]
