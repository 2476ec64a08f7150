"""How images are built and where they go, for each kind of cluster that CLUSTER may name.

* `local` builds with buildah on a base from debootstrap and imports into the containerd of the cluster on this machine.
* `kind` builds with Docker and loads into a kind cluster's node.
* `existing` builds with Docker and pushes to REGISTRY, from where the nodes of the user's cluster pull.

Only `local` can run where there is no Docker; the project's own checks use it, so the other two are kept thin.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hack import base, cache, oci, packages, wheels
from hack.console import Command, Stop, feed, run, works
from tests.cluster import kind, layout


@dataclass(frozen=True)
class Build:
    """One run of a Dockerfile: its context, its target if it has several, and directories that it names as stages."""

    dockerfile: Path
    context: Path
    target: str = ""
    inputs: Mapping[str, Path] = field(default_factory=dict)

    def arguments(self, base_image: str, image: str) -> list[str]:
        """Return the arguments that both engines understand."""
        inputs = [f"--build-context={name}={place}" for name, place in self.inputs.items()]
        target = [f"--target={self.target}"] if self.target else []
        names = [f"--file={self.dockerfile}", f"--build-arg=BASE={base_image}", f"--tag={image}"]
        return [*names, *target, *inputs, str(self.context)]


class Engine(Protocol):
    """Builds images and makes them available to a cluster."""

    registry: str
    base: str

    def present(self) -> set[str]:
        """Return the images that the cluster finds already."""
        ...

    def llama(self) -> Path:
        """Return the llama-cpp-python wheel that loads in these images and suits the processors they meet."""
        ...

    def prepare(self) -> None:
        """Do what must be done once before the first build."""

    def built(self, image: str) -> bool:
        """Say whether an image has been built and is still there."""
        ...

    def build(self, build: Build, base_image: str, image: str) -> None:
        """Build an image on another."""

    def deliver(self, images: Sequence[str]) -> None:
        """Bring built images to where the cluster finds them."""


def chosen(cluster: str) -> Engine:
    """Return the engine for a kind of cluster."""
    if cluster == "local":
        return Buildah()
    if cluster == "kind":
        return Docker(registry="localhost", push=False)
    if cluster == "existing":
        if "REGISTRY" not in os.environ:
            raise Stop("CLUSTER=existing pushes images where its nodes pull them from: set REGISTRY=host/path")
        return Docker(registry=os.environ["REGISTRY"], push=True)
    raise Stop(f"CLUSTER={cluster} is none of local, kind, existing")


def older(stored: Iterable[str], images: Collection[str]) -> list[str]:
    """Return what is stored under the names of these images with other tags."""
    names = {image.rpartition(":")[0] for image in images}
    return sorted(image for image in stored if image.rpartition(":")[0] in names and image not in images)


class Buildah:
    """buildah with a storage of its own in the cache, and the containerd of the cluster on this machine."""

    registry = "localhost"
    base = f"localhost/reembed-base:{base.key()}"

    # chroot isolation needs no network setup and works inside containers, where others do not.
    _HOW = ("--quiet", "--isolation=chroot", "--pull=never")
    _LAYOUT = cache.CACHE / "images"

    def present(self) -> set[str]:
        if not layout.socket().exists():
            raise Stop("images go into the cluster on this machine, and none runs: make cluster")
        return set(run([*layout.ctr(), "images", "list", "-q"]).split())

    def llama(self) -> Path:
        # These images run on this very processor.
        if wheels.fits_images():
            return wheels.llama()
        self.prepare()
        return wheels.for_images(
            lambda *of: llama_in_container([*_buildah(), "build", *self._HOW], self.base, *of), native=True
        )

    def prepare(self) -> None:
        packages.ensure({"buildah": "buildah", "skopeo": "skopeo"}, "building images without Docker")
        if self.built(self.base):
            return
        archive = base.archive()
        with tempfile.TemporaryDirectory() as directory:
            recipe = Path(directory) / "Dockerfile"
            recipe.write_text(f"FROM scratch\nADD {archive.name} /\n")
            run([*_buildah(), "build", "--quiet", f"--file={recipe}", f"--tag={self.base}", archive.parent])

    def built(self, image: str) -> bool:
        return works([*_buildah(), "inspect", "--type=image", image])

    def build(self, build: Build, base_image: str, image: str) -> None:
        ignored = f"--ignorefile={build.dockerfile}.dockerignore"
        run([*_buildah(), "build", *self._HOW, ignored, *build.arguments(base_image, image)])

    def deliver(self, images: Sequence[str]) -> None:
        for image in images:
            # The layout keeps layers by digest, so only what is new is copied; nothing is compressed for a network.
            source = f"containers-storage:[overlay@{_STORAGE}+{_RUN}]{image}"
            copy = ["skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers"]
            run([*copy, source, f"oci:{self._LAYOUT}:{image}"])
        oci.forget_all_but(self._LAYOUT, images)
        known = set(run([*layout.ctr(), "content", "list", "-q"]).split())
        feed([*layout.ctr(), "images", "import", "-"], lambda archive: oci.pack(self._LAYOUT, archive, leave_out=known))
        self._forget_old(images)

    def _forget_old(self, images: Sequence[str]) -> None:
        """Remove older versions of these images from both storages, except those that containers were made from."""
        old = older(run([*_buildah(), "images", "--format={{.Name}}:{{.Tag}}"]).split(), images)
        if old:
            run([*_buildah(), "rmi", *old])
        used = run([*layout.ctr(), "containers", "list"]).split()
        old = [image for image in older(self.present(), images) if image not in used]
        if old:
            run([*layout.ctr(), "images", "delete", *old])


class Docker:
    """Docker, and a kind cluster's node or a registry. Both notice by themselves what they have, layer by layer."""

    base = "python:3.11-slim-bookworm"

    def __init__(self, *, registry: str, push: bool) -> None:
        self.registry = registry
        self._push = push

    def present(self) -> set[str]:
        return set()

    def llama(self) -> Path:
        self.prepare()
        return wheels.for_images(
            lambda *of: llama_in_container(["docker", "build", "--quiet"], self.base, *of), native=False
        )

    def prepare(self) -> None:
        packages.ensure({"docker": "docker.io"}, "building images for another cluster")

    def built(self, image: str) -> bool:
        return works(["docker", "image", "inspect", image])

    def build(self, build: Build, base_image: str, image: str) -> None:
        run(["docker", "build", "--quiet", *build.arguments(base_image, image)])

    def deliver(self, images: Sequence[str]) -> None:
        for image in images:
            if self._push:
                run(["docker", "push", "--quiet", image])
            else:
                kind.load(image)


_STORAGE = cache.CACHE / "containers"
_RUN = cache.CACHE / "containers-run"


def llama_in_container(build: Command, base_image: str, sources: Path, flags: str, target: Path) -> None:
    """Compile llama-cpp-python from `sources` on an image, and leave its wheel in `target`."""
    recipe = [f"--file={cache.ROOT / 'images' / 'llama.Dockerfile'}", f"--build-arg=BASE={base_image}"]
    run([*build, *recipe, f"--build-arg=CMAKE_ARGS={flags}", f"--output=type=local,dest={target}", sources])


def _buildah() -> list[str | Path]:
    return ["buildah", "--root", _STORAGE, "--runroot", _RUN, "--storage-driver", "overlay"]
