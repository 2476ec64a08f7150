"""What Helm is told."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

from demo.install import Release
from demo.kubectl import Kubectl

_NOTES = "import json, sys; json.dump(sys.argv[2:], open(sys.argv[1], 'w'))"


async def test_a_tag_of_digits_alone_stays_a_string(tmp_path: Path) -> None:
    told = tmp_path / "told"
    helm = (sys.executable, "-c", _NOTES, str(told))
    await Release(Kubectl("reembed-system", ("kubectl",)), ("a", "b"), "localhost", "397336741363", helm).install()
    words = json.loads(told.read_text())
    settings = sorted(word for flag, word in pairwise(words) if flag.startswith("--set"))
    images = ("backfill", "embedder", "gateway", "operator", "panel")
    tags = {
        f"images.{image}.{part}"
        for image in images
        for part in ("repository=localhost/reembed-" + image, "tag=397336741363")
    }
    assert settings == sorted({*tags, "watchNamespaces={a,b}"})
    assert all(words[words.index(one) - 1] == "--set-string" for one in tags)
