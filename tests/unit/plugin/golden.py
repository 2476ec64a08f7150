"""Comparing a text with a file that people have read: tests/unit/plugin/golden/NAME.

`REWRITE_GOLDEN=1 pytest tests/unit/plugin` writes the files anew; the difference is then reviewed like any other.
"""

from __future__ import annotations

import os
from pathlib import Path

_FOLDER = Path(__file__).parent / "golden"


def expected(name: str, text: str) -> str:
    """Return what the golden file says `text` should be; `text` itself while files are rewritten."""
    path = _FOLDER / name
    if os.environ.get("REWRITE_GOLDEN"):
        path.write_text(f"{text}\n")
        return text
    return path.read_text().removesuffix("\n")
