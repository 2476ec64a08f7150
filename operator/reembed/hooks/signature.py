"""The headers that prove where a call comes from and that it is one and the same; docs/hooks.md shows how to check.

The time is signed with the body, so that a receiver can refuse what was recorded and sent again later.
"""

from __future__ import annotations

import hashlib
import hmac


def headers(body: bytes, key: str, secret: bytes | None, timestamp: int) -> dict[str, str]:
    """Return the headers of one attempt at `timestamp`, in seconds since 1970; only the signature needs a secret."""
    told = {"Content-Type": "application/json", "Idempotency-Key": key, "X-Reembed-Timestamp": str(timestamp)}
    if secret is not None:
        signed = hmac.new(secret, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
        told["X-Reembed-Signature"] = f"v1={signed}"
    return told
