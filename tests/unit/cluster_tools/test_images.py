"""An image's tag is a digest of all that is in it and of nothing else."""

from pathlib import Path

import pytest

from hack.engines import Build
from hack.images import Recipe, content_tag

BASE = "localhost/base:1"


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    for name in ("code", "libraries-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    (tmp_path / "code" / "main.py").write_text("1")
    return Recipe("gateway", tmp_path / "libraries-1", Build(tmp_path / "Dockerfile", tmp_path / "code"))


def test_the_same_content_has_the_same_tag(recipe: Recipe) -> None:
    before = content_tag([recipe], BASE)
    (recipe.code.context / "main.py").touch()
    assert content_tag([recipe], BASE) == before


@pytest.mark.parametrize("path", ["code/main.py", "code/new.py", "Dockerfile"])
def test_the_tag_follows(path: str, recipe: Recipe, tmp_path: Path) -> None:
    before = content_tag([recipe], BASE)
    (tmp_path / path).write_text("2")
    assert content_tag([recipe], BASE) != before


def test_the_tag_follows_the_libraries(recipe: Recipe, tmp_path: Path) -> None:
    other = Recipe(recipe.name, tmp_path / "libraries-2", recipe.code)
    assert content_tag([recipe], BASE) != content_tag([other], BASE)


def test_the_tag_follows_the_base(recipe: Recipe) -> None:
    assert content_tag([recipe], BASE) != content_tag([recipe], "localhost/base:2")


def test_what_python_compiles_beside_the_code_is_no_part_of_the_tag(recipe: Recipe) -> None:
    before = content_tag([recipe], BASE)
    compiled = recipe.code.context / "__pycache__" / "main.cpython-311.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"0")
    assert content_tag([recipe], BASE) == before
