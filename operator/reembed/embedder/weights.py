"""How a model's weights are multiplied: as the file has them, or in the way that is faster on this CPU.

A CPU with AVX512-BF16 multiplies BF16 about 1.4 times as fast as F16, one with AMX five times, by the library of tiles
(`embedder.tiles`; measured on six layers of 384 dimensions), at a cosine of 0.9999 to the file's own vectors. So a file
of F16 is converted once into the cache, both are measured on this machine, and the faster one is served; what was found
is kept beside it for the next start. Both types have two bytes, so the copy differs from the file in its weights and in
the type that its directory names, and in nothing else. A file of any other type is measured with and without tiles.

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
    """What the other way was found to be: its speed by the file's own, the smallest cosine, and whether by tiles."""

    ratio: float
    cosine: float
    tiles: bool = False

    @property
    def worth(self) -> bool:
        return self.ratio >= _WORTH and self.cosine >= MIN_COSINE


@dataclass(frozen=True, slots=True)
class Chosen:
    """The file that is served, its type, what decided (None if nothing had to be), and the library that computes."""

    path: Path
    type: str
    measured: Measured | None = None
    tiles: Path | None = None


@dataclass(frozen=True, slots=True)
class _Other:
    """The other way: the file itself or a copy of it, with tiles if there is a library; and where that is recorded."""

    source: Path
    path: Path
    record: Path
    tiles: Path | None

    @property
    def copied(self) -> bool:
        return self.path != self.source


def prevailing(tensors: tuple[Tensor, ...]) -> int:
    """Return the type that most of a file's weights have."""
    bytes_by_kind: dict[int, int] = {}
    for one in tensors:
        bytes_by_kind[one.kind] = bytes_by_kind.get(one.kind, 0) + one.length
    return max(bytes_by_kind, key=lambda kind: bytes_by_kind[kind], default=0)


async def choose(path: Path, model: Model, cache: Path, wanted: WeightType, library: Path | None = None) -> Chosen:
    """Return the file to serve; it never fails, since the file as it is can always be served."""
    kind = await asyncio.to_thread(_kind, path)
    as_file = Chosen(path, TYPES.get(kind, f"type {kind}"))
    copied = kind == _F16 and "bf16" in _cpu()
    if wanted is WeightType.AS_FILE or not (copied or library is not None):
        return as_file
    other = _other(path, model, cache, library, copied=copied)
    measured = await _recorded_or_measured(other, model)
    if measured is None or not measured.worth:
        return replace(as_file, measured=measured)
    served = replace(as_file, path=other.path, type=TYPES[_BF16]) if copied else as_file
    return replace(served, measured=measured, tiles=library if measured.tiles else None)


def _other(path: Path, model: Model, cache: Path, library: Path | None, *, copied: bool) -> _Other:
    # Pods on unlike CPUs, and of other images, may share the cache, and each keeps what is worth it there.
    built = library.read_bytes() if library is not None else b""
    place = cache / f"{model.sha256}.{hashlib.sha256(_cpu().encode() + built).hexdigest()[:8]}"
    if copied:
        converted = place.with_name(f"{place.name}.bf16.gguf")
        return _Other(path, converted, converted.with_suffix(".json"), library)
    return _Other(path, path, place.with_name(f"{place.name}.tiles.json"), library)


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


async def _recorded_or_measured(other: _Other, model: Model) -> Measured | None:
    if (known := _recorded(other)) is not None:
        return known
    try:
        async with held(other.record.with_suffix(".lock")) as alone:
            # Where nobody can be kept out, each pod writes a copy of its own.
            part = other.path.with_suffix(".part" if alone else f".{socket.gethostname()}.part")
            return _recorded(other) or await _measure(other, part, model)
    except OSError as error:
        _log.warning("the weights are served as the file has them: the cache takes nothing more (%s)", error.strerror)
        return None


async def _measure(other: _Other, part: Path, model: Model) -> Measured | None:
    """Convert, and measure in a process of its own: it may die, and takes its memory with it."""
    if other.copied:
        await asyncio.to_thread(convert, other.source, other.path, part)
    wish = {
        "as_file": str(other.source),
        "other": str(other.path),
        "tiles": str(other.tiles) if other.tiles is not None else None,
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
        _log.warning("the weights are served as the file has them: no other way could be measured")
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    _write(other, measured)
    return measured


def _write(other: _Other, measured: Measured) -> None:
    if other.copied and not measured.worth:
        other.path.unlink(missing_ok=True)
    copy = looks(other.path) if measured.worth else None
    other.record.write_text(json.dumps({"copy": copy, **asdict(measured)}))


def _recorded(other: _Other) -> Measured | None:
    """Return what an earlier start found, if its file is as it was left or was not worth keeping."""
    try:
        found = json.loads(other.record.read_text())
        measured = Measured(float(found["ratio"]), float(found["cosine"]), bool(found["tiles"]))
        return measured if not measured.worth or found.get("copy") == looks(other.path) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _cpu() -> str:
    """Return the processor's name and what it multiplies in hardware."""
    table = _table()
    known = [flag for flag in table.get("flags", "").split() if flag in {"avx512_bf16", "amx_bf16"}]
    return " ".join((table.get("model name", "").strip(), *sorted(known)))


def cpu_flags() -> frozenset[str]:
    """Return what the processor can do, by the kernel's names."""
    return frozenset(_table().get("flags", "").split())


def _table() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    return dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
