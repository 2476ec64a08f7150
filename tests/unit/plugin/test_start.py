"""The plugin starts with no more than its own extra, which people install on their machines."""

from __future__ import annotations

import subprocess
import sys

_OTHERS = ("kopf", "numpy", "psycopg", "starlette", "uvicorn", "llama_cpp", "prometheus_client")


def test_no_library_of_the_cluster_side_is_needed() -> None:
    without = "; ".join(f"sys.modules[{name!r}] = None" for name in _OTHERS)
    program = f"import sys; {without}; sys.argv[1:] = ['--version']; from reembed.plugin.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("kubectl-reembed ")
