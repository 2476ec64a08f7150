"""The embedder's image for GPUs: the Dockerfiles of the other images, on bases with CUDA.

`make image-gpu GPU_BUILD_BASE=... GPU_BASE=... IMAGE=...` builds it with Docker and leaves it there. The first base
compiles llama.cpp, so it has CUDA's compiler; the second is what runs, with CUDA's libraries. Both have Python 3.11.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from hack import cache, libraries, wheels
from hack.cache import ROOT
from hack.console import Stop, say
from hack.engines import Build, Docker, llama_in_container

# Of the GPUs that data centres run now: T4, A100, A10 and L4 (by A10's), H100. PTX of the last serves what is newer.
_ARCHITECTURES = "75;80;86;89;90"
_FLAGS = f"-DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES={_ARCHITECTURES}"
_SETTINGS = ("GPU_BUILD_BASE", "GPU_BASE", "IMAGE")


def main(environment: Mapping[str, str]) -> None:
    """Build the image that IMAGE names."""
    build_base, base, image = settings(environment)
    engine = Docker(registry="localhost", push=False)
    engine.prepare()
    say("building llama.cpp for GPUs; half an hour on a large machine")
    wheel = wheels.for_images(
        lambda *of: llama_in_container(["docker", "build", "--quiet"], build_base, *of), native=False, more=_FLAGS
    )
    for step, (build, below, name) in enumerate(steps(libraries.directory("embedder", wheel), base, image), start=1):
        say(f"step {step} of 2: {name}")
        engine.build(build, below, name)


def settings(environment: Mapping[str, str]) -> tuple[str, str, str]:
    """Return what compiles, what runs, and the image's name.

    Raises:
        Stop: one is missing.

    """
    if missing := [name for name in _SETTINGS if not environment.get(name)]:
        raise Stop(f"{' and '.join(missing)} not set; docs/embedder.md says what they must hold")
    build_base, base, image = (environment[name] for name in _SETTINGS)
    return build_base, base, image


def steps(packages: Path, base: str, image: str) -> tuple[tuple[Build, str, str], ...]:
    """Return the two builds, what each stands on, and what it is called."""
    below = f"localhost/reembed-libraries-embedder-gpu:{cache.digest([base, packages.name])}"
    images = ROOT / "images"
    return (
        (Build(images / "libraries.Dockerfile", packages), base, below),
        (Build(images / "Dockerfile", ROOT / "operator", "embedder"), below, image),
    )


if __name__ == "__main__":
    try:
        main(os.environ)
    except Stop as stop:
        sys.exit(str(stop))
