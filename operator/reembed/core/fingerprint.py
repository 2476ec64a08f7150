"""What makes two vectors comparable: the same fingerprint means the same model, read in the same way.

The file's type (F16, BF16, ...) is part of the file and so of its sha256; the URI is not, since a file may move. Of a
hosted model there is only its endpoint, its name there and a generation: whether it is still the same is found by
embedding the same texts again (`core.hosted`).

A collection's fingerprint is its model's, and behind a `+` how its documents were cut, if they were:
`fp-...+256-32-Line`. So whoever compares two collections' compares both, and whoever fills one knows how to cut, from
the one word that travels with it. Pods of a model, and queries, which are never cut, have to do with the first half
alone (`model_of`).
"""

from __future__ import annotations

import hashlib
import json

from reembed.core.model import Chunking, CutAt, Hosted, Model


def fingerprint(model: Model) -> str:
    """Return a name for the vector space of `model`: `fp-` and 16 hexadecimal digits."""
    parts = _of_file(model) if model.hosted is None else _of_hosted(model.uri, model.hosted)
    parts |= {
        "dimensions": model.dimensions,
        "truncate": model.truncate.value,
        "query_prefix": model.query_prefix,
        "document_prefix": model.document_prefix,
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"fp-{hashlib.sha256(canonical.encode()).hexdigest()[:16]}"


def of_collection(model: str, chunking: Chunking | None) -> str:
    """Return the fingerprint of a collection that holds vectors of the model with this fingerprint."""
    if chunking is None:
        return model
    return f"{model}+{chunking.max_tokens}-{chunking.overlap_tokens}-{chunking.at.value}"


def model_of(collection: str) -> str:
    """Return the model's part of a collection's fingerprint."""
    return collection.partition("+")[0]


def chunking_of(collection: str) -> Chunking | None:
    """Return how the documents of a collection with this fingerprint are cut, None if they are not.

    Raises:
        ValueError: it was made by a newer version, which cuts in other ways.

    """
    _, cut, words = collection.partition("+")
    if not cut:
        return None
    try:
        tokens, overlap, at = words.split("-")
        return Chunking(int(tokens), int(overlap), CutAt(at))
    except ValueError:
        raise ValueError(
            f"fingerprint {collection} cuts documents in a way that this version does not know; run the newer one"
        ) from None


def _of_file(model: Model) -> dict[str, object]:
    return {"sha256": model.sha256, "pooling": model.pooling.value, "max_tokens": model.max_tokens}


def _of_hosted(url: str, hosted: Hosted) -> dict[str, object]:
    return {
        "url": url,
        "name": hosted.name,
        "generation": hosted.generation,
        "max_characters": hosted.max_characters,
        "send_dimensions": hosted.send_dimensions,
    }
