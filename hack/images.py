"""Builds the images and brings them to where the cluster finds them; does nothing if nothing has changed.

`make images` runs `python3 -m hack.images`. Every image is built in two steps: the packages of its role, which change
with requirements.lock, and on top of them the code. All images share one tag, a digest of everything that is in them,
so a tag always means the same content and a second run has only to look whether it is there. The tag is left in
build/images.env (REEMBED_REGISTRY, REEMBED_TAG) for the chart, the demo and the tests. How images are built and where
they go depends on CLUSTER; `hack.engines` knows.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hack import cache, engines, libraries
from hack.cache import ROOT
from hack.console import Stop, run, say
from hack.engines import Build, Engine
from tests.cluster import choice

ROLES = ("operator", "embedder", "gateway", "backfill", "panel")
_IMAGES = ROOT / "images"
_RESULT = ROOT / "build" / "images.env"
# More would not be faster: a build is mostly hashing and copying, and the developer's other work goes on.
_AT_ONCE = 2


@dataclass(frozen=True)
class Recipe:
    """One image: what it is called, the packages it stands on, and the build that adds its code."""

    name: str
    libraries: Path
    code: Build

    def packages(self) -> Build:
        return Build(_IMAGES / "libraries.Dockerfile", self.libraries)


def main(cluster: str) -> None:
    """Build what is missing, deliver what the cluster has not, and write down the tag."""
    engine = engines.chosen(cluster)
    recipes = _recipes(engine)
    tag = content_tag(recipes, engine.base)
    images = {f"{engine.registry}/reembed-{recipe.name}:{tag}": recipe for recipe in recipes}
    missing = sorted(images.keys() - engine.present())
    if missing:
        _provide(engine, {image: images[image] for image in missing})
    else:
        say(f"all images are up to date: {tag}")
    _RESULT.parent.mkdir(exist_ok=True)
    _RESULT.write_text(f"REEMBED_REGISTRY={engine.registry}\nREEMBED_TAG={tag}\n")


def content_tag(recipes: Iterable[Recipe], base: str) -> str:
    """Return the tag for this content: the same files on the same base have the same one, whenever they are built."""
    parts = [base, (_IMAGES / "libraries.Dockerfile").read_text()]
    for recipe in recipes:
        context = recipe.code.context
        files = (path for path in context.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        parts += [recipe.name, recipe.code.dockerfile.read_text(), cache.digest_files(context, files)]
        # What lies in the cache is named by its content.
        parts += [recipe.libraries.name, *(place.name for place in recipe.code.inputs.values())]
    return cache.digest(parts)


def _recipes(engine: Engine) -> list[Recipe]:
    wheel = engine.llama()
    dockerfile, context = _IMAGES / "Dockerfile", ROOT / "operator"
    product = [Recipe(role, libraries.directory(role, wheel), Build(dockerfile, context, role)) for role in ROLES]
    demo = Build(_IMAGES / "demo.Dockerfile", ROOT / "demo", inputs={"models": _models()})
    return [*product, Recipe("demo", libraries.directory("demo", None), demo)]


def _models() -> Path:
    """Return the demo's model files, converted once; this needs the virtual environment's libraries."""
    key = cache.digest_files(ROOT, [ROOT / "demo" / "models.py", ROOT / "requirements.lock"])
    convert: list[str | Path] = [ROOT / ".venv" / "bin" / "python", "-m", "demo.models", "build"]
    return cache.entry("demo-models", key, lambda place: run([*convert, place], cwd=ROOT))


def _provide(engine: Engine, recipes: Mapping[str, Recipe]) -> None:
    start = time.monotonic()
    engine.prepare()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda item: _build(engine, *item), recipes.items()))
    built = time.monotonic()
    engine.deliver(list(recipes))
    say(f"images: built in {built - start:.1f} s, delivered in {time.monotonic() - built:.1f} s")


def _build(engine: Engine, image: str, recipe: Recipe) -> None:
    if engine.built(image):
        return
    start = time.monotonic()
    base = cache.digest([engine.base, recipe.packages().dockerfile.read_text(), recipe.libraries.name])
    packages = f"localhost/reembed-libraries-{recipe.name}:{base}"
    if not engine.built(packages):
        engine.build(recipe.packages(), engine.base, packages)
    engine.build(recipe.code, packages, image)
    say(f"built {image} in {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    try:
        with cache.locked("images"):
            main(choice.cluster(os.environ))
    except Stop as stop:
        sys.exit(str(stop))
