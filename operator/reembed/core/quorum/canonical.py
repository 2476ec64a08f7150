"""What is hashed and signed: RFC 8785 JSON behind a prefix that says what kind of thing it is.

The prefix keeps the signature of one thing from passing for that of another; RFC 8785 gives one value one text, so that
whoever reads a value from the API computes the digest its author computed.
"""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785

MEMBERSHIP = "membership"
PROPOSAL = "proposal"
BALLOT = "ballot"
EVIDENCE = "evidence"

_VERSION = "v1"


def message(domain: str, value: Any) -> bytes:
    """Return the bytes to hash or to sign for `value`, made of JSON's types with whole numbers below 2^53."""
    return f"reembed.dev/{domain}/{_VERSION}\n".encode() + rfc8785.dumps(value)


def digest(domain: str, value: Any) -> str:
    """Return the sha256 of `message` in hexadecimal."""
    return hashlib.sha256(message(domain, value)).hexdigest()
