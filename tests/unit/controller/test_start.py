"""The operator starts with no more than its own extra, which its image has."""

from __future__ import annotations

import subprocess
import sys

_OTHERS = ("numpy", "psycopg", "starlette", "uvicorn", "uvloop", "llama_cpp", "orjson", "rich")


def test_no_library_of_other_images_is_needed() -> None:
    without = "; ".join(f"sys.modules[{name!r}] = None" for name in _OTHERS)
    program = f"import sys; {without}; import reembed.controller.__main__, reembed.controller.operator"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
