"""In which type a model's weights are multiplied: as the file has them, or as BF16 where this CPU is faster with it.

A CPU with AVX512-BF16 or AMX multiplies BF16 about 1.4 times as fast as F16 (measured on six layers of 384 dimensions),
at a cosine of 0.9999 to the file's own vectors. So a file of F16 is converted once into the cache, both are measured on
this machine, and the faster one is served; what was found is kept beside it for the next start. Both types have two
bytes, so the copy differs from the file in its weights and in the type that its directory names, and in nothing else.

The vectors of both are of one space (cosine at least 0.999, which is checked here): the fingerprint does not name the
type, and pods on other CPUs may use another.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import os
import shutil
import socket
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from reembed.core.model import Model, WeightType
from reembed.embedder.gguf import Tensor, read_tensors
from reembed.embedder.node_cache import held, looks

_log = logging.getLogger("reembed.embedder")

_F16, _BF16 = 1, 30
TYPES = {0: "F32", _F16: "F16", 2: "Q4_0", 8: "Q8_0", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", _BF16: "BF16"}
# Weights converted at a time: what the conversion needs of memory is some times this.
_BLOCK = 1 << 18
# Faster by less is not worth a second file.
_WORTH = 1.05
# What design-data.md's classes of vectors ask for.
MIN_COSINE = 0.999
# Loading and measuring two models; a model that needs longer is served as it is.
_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Measured:
    """What two types of one model were found to be: speed of BF16 by that of the file, and the smallest cosine."""

    ratio: float
    cosine: float

    @property
    def worth(self) -> bool:
        return self.ratio >= _WORTH and self.cosine >= MIN_COSINE


@dataclass(frozen=True, slots=True)
class Chosen:
    """The file that is served, its type, and what decided (None if nothing had to be measured)."""

    path: Path
    type: str
    measured: Measured | None = None


def prevailing(tensors: tuple[Tensor, ...]) -> int:
    """Return the type that most of a file's weights have."""
    bytes_by_kind: dict[int, int] = {}
    for one in tensors:
        bytes_by_kind[one.kind] = bytes_by_kind.get(one.kind, 0) + one.length
    return max(bytes_by_kind, key=lambda kind: bytes_by_kind[kind], default=0)


async def choose(path: Path, model: Model, cache: Path, wanted: WeightType) -> Chosen:
    """Return the file to serve; it never fails, since the file as it is can always be served."""
    kind = await asyncio.to_thread(_kind, path)
    as_file = Chosen(path, TYPES.get(kind, f"type {kind}"))
    if wanted is WeightType.AS_FILE or kind != _F16 or not _may_multiply_bf16():
        return as_file
    # Pods on unlike CPUs may share the cache, and each keeps what is worth it there.
    processor = hashlib.sha256(_cpu().encode()).hexdigest()[:8]
    converted = cache / f"{model.sha256}.{processor}.bf16.gguf"
    measured = await _recorded_or_measured(path, converted, model)
    if measured is None:
        return as_file
    if not measured.worth:
        return replace(as_file, measured=measured)
    return Chosen(converted, TYPES[_BF16], measured)


def _kind(path: Path) -> int:
    with path.open("rb") as file:
        return prevailing(read_tensors(file))


def convert(source: Path, target: Path, part: Path) -> None:
    """Write a copy of a file with its F16 matrices as BF16, by way of `part`; whole or not at all.

    Raises:
        OSError: there is no room, or no right to write.

    """
    if shutil.disk_usage(target.parent).free < source.stat().st_size:
        # Others on this disk shall not meet it full meanwhile.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        shutil.copyfile(source, part)
        with part.open("r+b") as file:
            for tensor in read_tensors(file):
                if tensor.kind == _F16:
                    _convert(file.fileno(), tensor)
            os.fsync(file.fileno())
        part.rename(target)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _convert(file: int, tensor: Tensor) -> None:
    for begin in range(tensor.offset, tensor.offset + tensor.length, 2 * _BLOCK):
        size = min(2 * _BLOCK, tensor.offset + tensor.length - begin)
        bits = np.frombuffer(os.pread(file, size, begin), "<f2").astype("<f4").view("<u4")
        # To the nearest, halves to even, as the hardware does it.
        os.pwrite(file, ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes(), begin)
    os.pwrite(file, _BF16.to_bytes(4, "little"), tensor.kind_at)


async def _recorded_or_measured(path: Path, converted: Path, model: Model) -> Measured | None:
    record = _record(converted)
    known = _recorded(record, converted)
    if known is not None:
        return known
    try:
        async with held(converted.with_suffix(".lock")) as alone:
            # Where nobody can be kept out, each pod writes a copy of its own.
            part = converted.with_suffix(".part" if alone else f".{socket.gethostname()}.part")
            return _recorded(record, converted) or await _measure(path, converted, part, model)
    except OSError as error:
        _log.warning("the weights are served as the file has them: no copy can be made (%s)", error.strerror)
        return None


async def _measure(path: Path, converted: Path, part: Path, model: Model) -> Measured | None:
    """Convert, and measure in a process of its own: it may die, and takes its memory with it."""
    await asyncio.to_thread(convert, path, converted, part)
    wish = {
        "as_file": str(path),
        "other": str(converted),
        "pooling": model.pooling.value,
        "dimensions": model.dimensions,
        "max_tokens": model.max_tokens,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "reembed.embedder.speed", json.dumps(wish)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )
    try:
        async with asyncio.timeout(_SECONDS):
            told, _ = await process.communicate()
        measured = Measured(**json.loads(told))
    except (TimeoutError, ValueError, TypeError):
        _log.warning("the weights are served as the file has them: BF16 could not be measured")
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    _write(_record(converted), converted, measured)
    return measured


def _record(converted: Path) -> Path:
    return converted.with_suffix(".json")


def _write(record: Path, converted: Path, measured: Measured) -> None:
    if not measured.worth:
        converted.unlink(missing_ok=True)
    record.write_text(json.dumps({"copy": looks(converted) if measured.worth else None, **asdict(measured)}))


def _recorded(record: Path, converted: Path) -> Measured | None:
    """Return what an earlier start found, if its copy is as it was left or was not worth keeping."""
    try:
        found = json.loads(record.read_text())
        measured = Measured(float(found["ratio"]), float(found["cosine"]))
        return measured if not measured.worth or found.get("copy") == looks(converted) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _may_multiply_bf16() -> bool:
    return "bf16" in _cpu()


def _cpu() -> str:
    """Return the processor's name and what it multiplies in hardware."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    table = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    flags = [flag for flag in table.get("flags", "").split() if flag in {"avx512_bf16", "amx_bf16"}]
    return " ".join((table.get("model name", "").strip(), *sorted(flags)))
