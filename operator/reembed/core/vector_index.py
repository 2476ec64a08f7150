"""What is said of a collection's vector index while it is built, and whether it finds enough to answer.

`core.states` asks while a migration is Indexing. An index that finds too little is no fault of the model: nothing is
taken back for it, and its owner has another one built by asking for more links.
"""

from __future__ import annotations

from reembed.core.migration import Migration, Seen
from reembed.core.model import CollectionReport
from reembed.core.triggers import Finding


def progress(report: CollectionReport) -> str:
    """Say how far the index is, by whole percents."""
    build = report.building
    if build is None or build.total <= 0:
        return f"building the vector index over {report.written} documents"
    return f"building the vector index: {build.done * 100 // build.total} % of {build.total:,} vectors"


def finds_too_little(migration: Migration, seen: Seen, report: CollectionReport) -> Finding | None:
    """Find that the index misses too many of the nearest vectors; one that nobody measured says nothing."""
    if seen.index is None or report.recall is None:
        return None
    shape = seen.index.spec.vector_index
    if report.recall >= shape.min_recall:
        return None
    text = (
        f"the vector index of {report.name} finds {report.recall:.1%} of the 10 nearest vectors, below"
        f" {shape.min_recall:.1%}; it answers nothing. Raise spec.vectorIndex of EmbeddingIndex"
        f" {migration.spec.index!r}, which has m {shape.m} and efConstruction {shape.ef_construction}, and it is built"
        " again; or lower minRecall there"
    )
    return Finding("IndexRecallLow", text)
