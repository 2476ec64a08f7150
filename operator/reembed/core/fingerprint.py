"""What makes two vectors comparable: the same fingerprint means the same model, read in the same way.

The file's type (F16, BF16, ...) is part of the file and so of its sha256; the URI is not, since a file may move. Of a
hosted model there is only its endpoint, its name there and a generation: whether it is still the same is found by
embedding the same texts again (`core.hosted`).
"""

from __future__ import annotations

import hashlib
import json

from reembed.core.model import Hosted, Model


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
