"""The library that computes with a CPU's tiles (AMX): whether it can be used here, and its use.

llama.cpp multiplies BF16 by AVX512 even where a CPU has AMX, which multiplies thirty times as much. The library
(C++, in `native/`) is one more backend of ggml, beside the one for CPUs: it takes products with BF16 weights, attention
and what is between them. It lies beside llama.cpp's own libraries in their wheel; where it is missing, or is not faster
(`embedder.weights` measures), all is computed without it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

_NAME = "libreembed-tiles.so"
# Some hypervisors hide one of them.
_FLAGS = frozenset({"amx_tile", "amx_bf16", "avx512_bf16", "avx512dq", "avx512bw", "avx512vl"})


# arch_prctl on x86-64, what is asked of it (ARCH_REQ_XCOMP_PERM), and for what (XFEATURE_XTILEDATA).
_ASK = (158, 0x1023, 18)


def library(flags: frozenset[str], allowed: Callable[[], bool] | None = None) -> Path | None:
    """Return the library if it was built, a CPU of these flags can run it, and the kernel lets this container."""
    found = find_spec("llama_cpp")
    if not flags >= _FLAGS or found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / "lib" / _NAME
    return path if path.is_file() and (allowed or _allowed)() else None


def _allowed() -> bool:
    """Ask what the engine will ask: a measurement in the cache may be that of a pod with another seccomp profile."""
    return int(ctypes.CDLL(None).syscall(*_ASK)) == 0


def use(path: Path) -> bool:
    """Have contexts that are made from now on compute with tiles; return whether the kernel lets this process."""
    return int(ctypes.CDLL(str(path)).reembed_tiles_register()) == 0
