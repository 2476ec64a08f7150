"""What makes two vectors comparable: the same fingerprint means the same model, read in the same way.

The file's type (F16, BF16, ...) is part of the file and so of its sha256; the URI is not, since a file may move.
"""

from __future__ import annotations

import hashlib
import json

from reembed.core.model import Model


def fingerprint(model: Model) -> str:
    """Return a name for the vector space of `model`: `fp-` and 16 hexadecimal digits."""
    parts = {
        "sha256": model.sha256,
        "pooling": model.pooling.value,
        "dimensions": model.dimensions,
        "max_tokens": model.max_tokens,
        "truncate": model.truncate.value,
        "query_prefix": model.query_prefix,
        "document_prefix": model.document_prefix,
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"fp-{hashlib.sha256(canonical.encode()).hexdigest()[:16]}"
