"""Writes the README's figures from build/bench/demo.json: `python -m demo.readme`, after a run worth showing.

Only the block between the two markers is touched, so that no figure in the README was ever typed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BEGIN = "<!-- figures: written by `python -m demo.readme` from build/bench/demo.json; do not edit by hand -->"
_END = "<!-- end of figures -->"


def with_figures(readme: str, figures: Mapping[str, Any]) -> str:
    """Return the README with this run's figures."""
    before, rest = readme.split(_BEGIN)
    return f"{before}{_BEGIN}\n\n{_table(figures)}\n\n{_END}{rest.split(_END)[1]}"


def _table(figures: Mapping[str, Any]) -> str:
    rows = {
        "queries failed / answered by the wrong collection": (
            f"{figures['queries_failed']} / {figures['queries_wrong_collection']} of {figures['queries']:,}, "
            f"at {figures['queries_per_s']:.0f}/s"
        ),
        "latency of a query while documents are embedded and traffic moves, p50 / p95": (
            f"{figures['query_p50_ms']:.0f} / {figures['query_p95_ms']:.0f} ms"
        ),
        "documents re-embedded": f"{figures['documents']:,}, {figures['documents_per_s']:.0f}/s",
        "MRR@10 of the old and the new model": f"{figures['mrr_old']:.3f} -> {figures['mrr_new']:.3f}",
        "resident memory of operator / gateway, anonymous memory of embedder": (
            f"{figures['operator_rss_mib']:.0f} / {figures['gateway_rss_mib']:.0f} / "
            f"{figures['embedder_anonymous_mib']:.0f} MiB"
        ),
        "the migration / the whole demo, images and cluster being there": (
            f"{figures['migration_seconds']:.0f} / {figures['seconds']:.0f} s"
        ),
    }
    head = f"| {figures['machine']}, {figures['date']} | |\n|---|---|"
    return "\n".join([head, *(f"| {name} | {value} |" for name, value in rows.items())])


if __name__ == "__main__":
    page, result = Path("README.md"), Path("build/bench/demo.json")
    page.write_text(with_figures(page.read_text(), json.loads(result.read_text())))
