"""What a migration's spec asks for that its model, its index or this installation cannot do: checks of `preflight`.

They look at what users wrote and at what is installed. Most of it no waiting heals, and says what to change.
"""

from __future__ import annotations

from dataclasses import dataclass

from reembed.core.migration import Migration, Seen
from reembed.core.model import Decides, GateKind, Store

# HNSW indexes of pgvector hold at most this many dimensions (as halfvec).
MAX_DIMENSIONS = 4000
# Models put at most a token before a text and one behind it.
SPECIAL_TOKENS = 2


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a migration cannot start yet, or, if permanent, ever."""

    reason: str
    message: str
    permanent: bool = False


def dimensions_too_large(migration: Migration, seen: Seen) -> Obstacle | None:
    found = seen.target.spec.model.dimensions if seen.target is not None else 0
    if found <= MAX_DIMENSIONS:
        return None
    message = f"the model has {found} dimensions, the vector index holds {MAX_DIMENSIONS}; choose a smaller model"
    return Obstacle("DimensionsTooLarge", message, permanent=True)


def chunks_unfit(migration: Migration, seen: Seen) -> Obstacle | None:
    """A part that the model would not read to its end would be found by its beginning only.

    Only its pods have the tokenizer: of a prefix it is known here that it has no more tokens than bytes.
    """
    chunking = migration.spec.chunking
    if chunking is None or seen.target is None:
        return None
    model = seen.target.spec.model
    if model.hosted is not None:
        text = (
            f"target.chunking cuts documents by the model's own tokenizer, and pool {migration.spec.pool!r} runs"
            " elsewhere: nobody here has it; remove chunking, or choose a model whose file a pool can run"
        )
        return Obstacle("TokenizerMissing", text, permanent=True)
    if seen.index is not None and seen.index.spec.store is Store.CHROMA:
        text = "target.chunking cuts documents, and a Chroma store holds one vector of each; remove chunking"
        return Obstacle("ChunkingUnsupported", text, permanent=True)
    if seen.index is not None and seen.index.spec.group_column is not None:
        text = (
            f"target.chunking cuts documents, and rows of index {migration.spec.index!r} are parts already"
            f" (source.groupColumn is {seen.index.spec.group_column!r}): the text that they were cut from is not there,"
            " and parts of parts would lose what stands between them; remove chunking, or create an EmbeddingIndex over"
            " a table of whole documents"
        )
        return Obstacle("ChunkingUnsupported", text, permanent=True)
    prefix = len(model.document_prefix.encode())
    most = model.max_tokens - SPECIAL_TOKENS - prefix
    if chunking.max_tokens <= most:
        return None
    text = (
        f"target.chunking.maxTokens is {chunking.max_tokens}, and of the {model.max_tokens} tokens that the model reads"
        f" {SPECIAL_TOKENS} are its own and up to {prefix} those of the prefix, one for each byte, so that the ends of"
        f" parts would be left out; set {max(most, 0)} or less in another EmbeddingMigration"
    )
    return Obstacle("ChunksTooLong", text, permanent=True)


def trigger_unmeasurable(migration: Migration, seen: Seen) -> Obstacle | None:
    """A trigger that somebody asks for and nobody can measure would hold the migration half-way."""
    limits = migration.spec.limits
    if seen.panel is None and (limits.agents is not None or limits.consensus is not None):
        text = "rollback.triggers names agents or consensus, and no panel votes for this index; remove them"
        return Obstacle("PanelMissing", text, permanent=True)
    if limits.prometheus and seen.queries is None:
        text = (
            "rollback.triggers.prometheus is set, and the operator knows no Prometheus; set its chart's prometheus.url"
        )
        return Obstacle("PrometheusMissing", text)
    if limits.retrieval is not None and migration.spec.evaluation is None:
        text = "rollback.triggers.retrieval is set, and there are no labelled queries; set evaluation, or remove it"
        return Obstacle("LabelsMissing", text, permanent=True)
    return None


def gate_unmeasurable(migration: Migration, seen: Seen) -> Obstacle | None:
    """A gate that can never hold would hold the migration until its deadline."""
    spec = migration.spec
    kinds = {gate.kind: gate.name for gate in spec.gates}
    if GateKind.RETRIEVAL in kinds and spec.evaluation is None:
        text = f"gate {kinds[GateKind.RETRIEVAL]!r} needs labelled queries; set evaluation, or remove the gate"
        return Obstacle("LabelsMissing", text, permanent=True)
    if GateKind.SHADOW_OVERLAP in kinds and not spec.shadow:
        text = f"gate {kinds[GateKind.SHADOW_OVERLAP]!r} needs shadow queries, and canary.shadow is 0%; raise it"
        return Obstacle("ShadowMissing", text, permanent=True)
    return None


def panel_missing(migration: Migration, seen: Seen) -> Obstacle | None:
    """Who decides is the index's word; a migration may only say whom it expects."""
    panel, mode = seen.index.spec.panel if seen.index is not None else None, migration.spec.consensus.mode
    if panel is None and mode is Decides.PANEL:
        text = (
            "spec.consensus.mode is Panel, and the index names none in spec.panelRef; remove it, or name a panel there"
        )
        return Obstacle("PanelMissing", text, permanent=True)
    if panel is not None and mode is Decides.OPERATOR:
        text = f"spec.consensus.mode is Operator, and gateways of the index ask for the votes of Panel {panel.name!r}"
        return Obstacle("PanelRequired", f"{text}; remove spec.consensus.mode", permanent=True)
    if panel is None or (seen.panel is not None and seen.panel.chain):
        return None
    found = f"Panel {panel.name!r} in namespace {panel.namespace!r}"
    if seen.panel is None:
        text = f"waiting for {found}; install the panel, and name its namespace in the chart's panel.namespace"
        return Obstacle("PanelMissing", text)
    text = f"{found} does not begin with the members whose digest the index's spec.panelRef names"
    return Obstacle("PanelForeign", f"{text}; kubectl reembed panel status prints the digest that it has")


def follower_missing(migration: Migration, seen: Seen) -> Obstacle | None:
    if migration.spec.limits.follower_lag is None or seen.store is None or seen.store.lag is not None:
        return None
    text = "rollback.triggers.followerLag is set, and the store worker follows no live writes; remove it"
    return Obstacle("FollowerMissing", text, permanent=True)
