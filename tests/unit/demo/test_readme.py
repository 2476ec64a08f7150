"""Figures reach the README whole, and nothing else of it changes."""

from pathlib import Path

from demo.readme import with_figures
from tests.unit.demo.test_report import GOOD

README = Path(__file__).parents[3] / "README.md"


def test_a_second_run_replaces_the_figures_of_the_first() -> None:
    figures = {**GOOD.json(), "embedder_anonymous_mib": 180.0}
    once = with_figures(README.read_text(), {**figures, "documents_per_s": 1.0})
    twice = with_figures(once, figures)
    assert "| documents re-embedded | 2,000, 41/s |" in twice
    assert twice == with_figures(README.read_text(), figures)


def test_memory_is_labelled_as_what_it_is() -> None:
    page = with_figures(README.read_text(), {**GOOD.json(), "embedder_anonymous_mib": 180.0})
    assert "| resident memory of operator / gateway, anonymous memory of embedder | 91 / 75 / 180 MiB |" in page
