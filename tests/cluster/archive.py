"""The one image that a cluster cannot do without: a pod's `pause` container, packed without any image tool."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

PAUSE = "localhost/pause:1"


def pack(program: Path, name: str, target: Path) -> None:
    """Write an image that is nothing but one static program, in the format of `docker save`."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        _add(files, program.name, program.read_bytes(), mode=0o755)
    content = layer.getvalue()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(target, mode="w") as image:
        _add(image, "layer.tar", content)
        _add(image, "config.json", json.dumps(config).encode())
        _add(image, "manifest.json", json.dumps(manifest).encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
