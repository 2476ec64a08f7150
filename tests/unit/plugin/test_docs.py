"""docs/cli.md shows what the plugin shows, and names every key of its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reembed.plugin import document
from reembed.plugin.reading import read_migration
from tests.unit.plugin import stories
from tests.unit.plugin.test_views import AROUND, drawn

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()


def keys(value: Any) -> Iterator[str]:
    """Yield every key at every depth."""
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from keys(inner)
    if isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_the_sample_is_what_get_shows() -> None:
    assert drawn(read_migration(stories.IN_DANGER, AROUND)) in PAGE


def test_every_key_is_documented() -> None:
    shown = [stories.IN_DANGER, stories.AWAITING_APPROVAL, stories.VOTING]
    found = document.migrations([read_migration(raw, AROUND) for raw in shown], stories.NOW)
    assert [key for key in keys(found) if f"`{key}`" not in PAGE] == []
