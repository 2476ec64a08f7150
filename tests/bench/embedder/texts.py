"""Texts of Python's own standard library: short ones as queries are, functions as documents are, and a mixture."""

from __future__ import annotations

import ast
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# Characters; about 256 tokens of code, which is what the model reads.
_LONGEST = 1_200
_MEDIUM = range(250, 600)
_SHORTEST_QUERY = 20
# Half of what a gateway asks for are short texts.
_MIXTURE = {"short": 5, "medium": 3, "long": 2}


def texts(count: int = 4_000) -> dict[str, list[str]]:
    """Return short, medium, long and mixed texts, the same ones at each call."""
    found = list(_functions())
    random.Random(1).shuffle(found)
    kinds = {
        "short": [summary for _, summary in found if len(summary) > _SHORTEST_QUERY],
        "medium": [source for source, _ in found if len(source) in _MEDIUM],
        "long": [source[:_LONGEST] for source, _ in found if len(source) >= _MEDIUM.stop],
    }
    draw = random.Random(2)
    names = draw.choices(list(_MIXTURE), list(_MIXTURE.values()), k=count)
    return {**kinds, "mixed": [draw.choice(kinds[name]) for name in names]}


def _functions() -> Iterator[tuple[str, str]]:
    """Yield each function's source and the first paragraph of its docstring."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        source = path.read_text(errors="replace")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                segment = ast.get_source_segment(source, node) or ""
                yield segment, (ast.get_docstring(node) or "").split("\n\n")[0]
