"""The library that computes with a CPU's tiles (AMX): whether it can be used here, and its use.

llama.cpp multiplies BF16 by AVX512 even where a CPU has AMX, which multiplies thirty times as much. The library
(C++, in `native/`) is one more backend of ggml, beside the one for CPUs: it takes products with BF16 weights, attention
and what is between them. It lies beside llama.cpp's own libraries in their wheel; where it is missing, or is not faster
(`embedder.weights` measures), all is computed without it.
"""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path

_NAME = "libreembed-tiles.so"
# Some hypervisors hide one of them.
_FLAGS = frozenset({"amx_tile", "amx_bf16", "avx512_bf16", "avx512dq", "avx512bw", "avx512vl"})


def library(flags: frozenset[str]) -> Path | None:
    """Return the library if it was built, and a CPU of these flags can run it."""
    found = find_spec("llama_cpp")
    if not flags >= _FLAGS or found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / "lib" / _NAME
    return path if path.is_file() else None


def use(path: Path) -> bool:
    """Have contexts that are made from now on compute with tiles; return whether the kernel lets this process."""
    return int(ctypes.CDLL(str(path)).reembed_tiles_register()) == 0
