"""The base of all images where there is no Docker: Debian 12 with Python 3.11, made by debootstrap, as one archive.

It needs Debian's packages and no image registry, takes two to three minutes and is kept in the cache. What a container
never reads (manuals, translations, package lists) is left out: 125 MB remain of 275.
"""

from __future__ import annotations

from pathlib import Path

from hack import cache, packages
from hack.console import run, say

SUITE = "bookworm"
_INCLUDED = "python3,ca-certificates"
_LEFT_OUT = (
    "./dev/*",
    "./proc/*",
    "./sys/*",
    "./usr/share/doc/*",
    "./usr/share/info/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
    "./var/cache/*",
    "./var/lib/apt/lists/*",
    "./var/log/*",
)
_PACKAGES = {
    "debootstrap": "debootstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}


def key() -> str:
    return cache.digest([SUITE, _INCLUDED, *_LEFT_OUT])


def archive() -> Path:
    """Return the base as a tar archive; making it needs root."""
    return cache.entry("base", key(), _make) / "base.tar"


def _make(place: Path) -> None:
    packages.ensure(_PACKAGES, "an image base without Docker")
    say(f"making an image base of Debian {SUITE}; two to three minutes")
    root = place / "root"
    run(["debootstrap", "--variant=minbase", f"--include={_INCLUDED}", SUITE, root])
    exclude = [f"--exclude={path}" for path in _LEFT_OUT]
    run(["tar", "--create", f"--file={place / 'base.tar'}", f"--directory={root}", "--sort=name", *exclude, "."])
    run(["rm", "-rf", "--one-file-system", root])
