"""The image for GPUs: the same Dockerfiles on other bases, and a word about what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack import gpu
from hack.cache import ROOT
from hack.console import Stop

_WHOLE = {"GPU_BUILD_BASE": "cuda:devel", "GPU_BASE": "cuda:runtime", "IMAGE": "you/gpu:1"}


def test_the_image_is_made_by_the_dockerfiles_of_the_others() -> None:
    packages, code = gpu.steps(Path("/packages"), "cuda:runtime", "you/gpu:1")
    assert [packages[0].dockerfile, code[0].dockerfile] == [
        ROOT / "images" / "libraries.Dockerfile",
        ROOT / "images" / "Dockerfile",
    ]
    assert (packages[1], code[1] == packages[2], code[2], code[0].target) == (
        "cuda:runtime",
        True,
        "you/gpu:1",
        "embedder",
    )


@pytest.mark.parametrize("name", _WHOLE)
def test_a_base_or_name_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(Stop, match=f"{name} not set; docs/embedder.md says what they must hold"):
        gpu.settings(_WHOLE | {name: ""})


def test_with_all_set_nothing_is_asked() -> None:
    assert gpu.settings(_WHOLE) == ("cuda:devel", "cuda:runtime", "you/gpu:1")
