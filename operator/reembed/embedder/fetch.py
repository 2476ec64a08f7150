"""Brings a model file into the cache, whole and with the right SHA-256, or says why it can't.

The header is checked as soon as enough of the file is there, so a wrong file, or one that the container has no memory
for, is refused before its gigabytes are paid for. A file is written under another name and renamed once its sum is
right: what bears the final name is whole. Pods that share a cache fetch a file once (`embedder.node_cache`). A file
shorter than its own header says may yet become whole; another wrong sum is for good. Credentials may be part of a URI,
so only its host and path are ever shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reembed.core.model import Model
from reembed.embedder.download import Download, Means, Retries
from reembed.embedder.gguf import Header, HeaderIncomplete, check_header, read_header
from reembed.embedder.node_cache import held, remember, sum_of
from reembed.embedder.part import Check, Part
from reembed.embedder.refusals import ChecksumMismatch, NotGGUF, PermanentRefusal, Refusal, Truncated, Unavailable
from reembed.embedder.sources import shown

__all__ = ["Means", "Retries", "fetch"]

_DEFAULT = Retries()


async def fetch(
    model: Model,
    cache: Path,
    retries: Retries = _DEFAULT,
    means: Means | None = None,
    check: Check | None = None,
) -> Path:
    """Return the path of the checked model file. `check` may raise another refusal because of the file's header.

    Raises:
        Refusal: the file cannot be had or is not what the pool says; its message says what to do.

    """

    def check_all(header: Header) -> None:
        check_header(header, model)
        if check is not None:
            check(header)

    if model.uri.startswith("file://"):
        path = Path(unquote(urlsplit(model.uri).path))
        try:
            await asyncio.to_thread(_check_local, path, model, cache / f"{model.sha256}.file.json", check_all)
        except OSError as error:
            raise Unavailable(
                f"{path} can't be read ({error.strerror}); look at the claim's volume and at the file's permissions"
            ) from error
        return path
    try:
        async with held(cache / f"{model.sha256}.lock") as alone:
            target = cache / f"{model.sha256}.gguf"
            if await asyncio.to_thread(_is_there, target, model):
                with target.open("rb") as file:
                    check_all(read_header(file))
            else:
                # Where nobody can be kept out, each pod writes for itself; whoever is last gives the file its name.
                name = model.sha256 if alone else f"{model.sha256}.{socket.gethostname()}"
                part = Part(cache / f"{name}.part", check_all)
                await _download(model, part, Download(model.uri, part, retries, means or Means()))
                part.finish(target)
                asyncio.get_running_loop().run_in_executor(None, _settle, target, model)
            return target
    except OSError as error:
        raise Unavailable(
            f"the cache {cache} can't be used ({error.strerror}); look at the volume of spec.cache and at its rights"
        ) from error


async def _download(model: Model, part: Part, download: Download) -> None:
    """Fill `part` until it is whole and right."""
    try:
        await download.run(model.sha256)
        if (fault := _fault(shown(model.uri), part.size, part.sha256, part.header, model)) is not None:
            raise fault
    except PermanentRefusal:
        # The next start shall not find it: by then the server may have the right file.
        part.remove()
        raise


def _settle(target: Path, model: Model) -> None:
    """Bring a file to the disk, beside what goes on, and keep its sum only then: pages that a node lost are summed."""
    with target.open("rb") as file:
        os.fdatasync(file.fileno())
    remember(target, _record(target), model.sha256)


def _is_there(target: Path, model: Model) -> bool:
    return target.exists() and sum_of(target, _record(target)) == model.sha256


def _record(target: Path) -> Path:
    return target.with_suffix(".gguf.json")


def _check_local(path: Path, model: Model, record: Path, check: Check) -> None:
    if not path.is_file():
        raise Unavailable(f"there is no file {path}; look at spec.model.uri and at what the claim holds")
    header = None
    with path.open("rb") as file, contextlib.suppress(HeaderIncomplete):
        header = read_header(file)
        check(header)
    if (fault := _fault(str(path), path.stat().st_size, sum_of(path, record), header, model)) is not None:
        raise fault


def _fault(name: str, size: int, found: str, header: Header | None, model: Model) -> Refusal | None:
    """Return why a file is not the pool's, by its sum and its header (None if it ends within); None if it is."""
    if found == model.sha256:
        return (
            None if header else NotGGUF(f"{name} ends within its GGUF header ({size} bytes); convert the model again")
        )
    if header is None or size < header.size:
        whole = f"its GGUF header describes {header.size}" if header else "which is within its GGUF header"
        return Truncated(
            f"{name} ends after {size} bytes, {whole}; nothing is served and the pod tries again: copy the whole file "
            "there, if no copy is under way"
        )
    return ChecksumMismatch(
        f"{name} has sha256 {found} ({size} bytes), the pool expects {model.sha256}; nothing is served: correct "
        "spec.model.sha256 in a new pool, or the file"
    )
