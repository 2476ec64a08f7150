"""An OCI image layout on disk: which of its layers a container runtime lacks, and which nobody needs any more.

A layout keeps every layer once, under its digest. `pack` writes an archive with only what the receiver does not have,
so that a change of code moves kilobytes; `forget_all_but` keeps the layout from growing with every build.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

# skopeo writes the first; containerd's import reads an image's full name from the second.
_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"


def pack(layout: Path, archive: IO[bytes], leave_out: Collection[str]) -> None:
    """Write an archive of all images of the layout, without the blobs whose digests the receiver knows.

    It is written from front to back, so the archive may be a pipe: half a gigabyte need not lie on the disk once more.
    """
    index = _index(layout)
    for manifest in index["manifests"]:
        manifest["annotations"][_CONTAINERD_NAME] = manifest["annotations"][_NAME]
    with tarfile.open(fileobj=archive, mode="w|") as target:
        _add(target, "oci-layout", (layout / "oci-layout").read_bytes())
        _add(target, "index.json", json.dumps(index).encode())
        for digest in sorted(set(_referenced(layout, index)) - set(leave_out)):
            target.add(_blob(layout, digest), f"blobs/{digest.replace(':', '/')}")


def forget_all_but(layout: Path, names: Collection[str]) -> None:
    """Remove all images but these from the layout, and the blobs that then belong to none."""
    index = _index(layout)
    index["manifests"] = [item for item in index["manifests"] if item["annotations"][_NAME] in names]
    (layout / "index.json").write_text(json.dumps(index))
    kept = {_blob(layout, digest) for digest in _referenced(layout, index)}
    for blob in (layout / "blobs" / "sha256").iterdir():
        if blob not in kept:
            blob.unlink()


def _index(layout: Path) -> dict[str, Any]:
    return dict(json.loads((layout / "index.json").read_text()))


def _referenced(layout: Path, index: dict[str, Any]) -> Iterator[str]:
    """Yield the digests of every manifest, configuration and layer."""
    for item in index["manifests"]:
        yield item["digest"]
        manifest = json.loads(_blob(layout, item["digest"]).read_text())
        yield manifest["config"]["digest"]
        for layer in manifest["layers"]:
            yield layer["digest"]


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
