"""An image layout hands over only what the receiver lacks, and keeps only what is named."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from hack import oci

NAME = "org.opencontainers.image.ref.name"


class Layout:
    """An image layout on disk in which images share a base layer."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "blobs" / "sha256").mkdir(parents=True)
        (place / "oci-layout").write_text("{}")
        self.base = self.blob(b"base")
        self.manifests: list[dict] = []

    def blob(self, content: bytes) -> str:
        name = hashlib.sha256(content).hexdigest()
        (self.place / "blobs" / "sha256" / name).write_bytes(content)
        return f"sha256:{name}"

    def image(self, name: str) -> list[str]:
        """Add an image of the shared layer and one of its own; return the digests of all but the shared one."""
        own, config = self.blob(name.encode()), self.blob(f"config of {name}".encode())
        layers = [{"digest": self.base}, {"digest": own}]
        manifest = self.blob(json.dumps({"config": {"digest": config}, "layers": layers}).encode())
        self.manifests.append({"digest": manifest, "annotations": {NAME: name}})
        (self.place / "index.json").write_text(json.dumps({"manifests": self.manifests}))
        return sorted([own, config, manifest])

    def blobs(self) -> set[str]:
        return {f"sha256:{path.name}" for path in (self.place / "blobs" / "sha256").iterdir()}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def packed(layout: Layout, known: set[str]) -> list[str]:
    archive = io.BytesIO()
    oci.pack(layout.place, archive, known)
    with tarfile.open(fileobj=io.BytesIO(archive.getvalue())) as files:
        return sorted(name.replace("blobs/sha256/", "sha256:") for name in files.getnames() if "blobs" in name)


def test_an_archive_holds_each_layer_once(layout: Layout) -> None:
    wanted = sorted([*layout.image("a:1"), *layout.image("b:1"), layout.base])
    assert packed(layout, set()) == wanted


def test_an_archive_leaves_out_what_the_receiver_has(layout: Layout) -> None:
    own = layout.image("a:1")
    assert packed(layout, {layout.base}) == own


def test_an_archive_names_its_images_as_containerd_reads_them(layout: Layout) -> None:
    layout.image("localhost/a:1")
    archive = io.BytesIO()
    oci.pack(layout.place, archive, set())
    with tarfile.open(fileobj=io.BytesIO(archive.getvalue())) as files:
        index = json.load(files.extractfile("index.json"))
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "localhost/a:1"


def test_a_forgotten_image_takes_its_own_layers_along_and_leaves_the_shared_ones(layout: Layout) -> None:
    layout.image("a:1")
    kept = layout.image("a:2")
    oci.forget_all_but(layout.place, ["a:2"])
    assert layout.blobs() == {*kept, layout.base}
