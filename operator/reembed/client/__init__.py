"""The asynchronous HTTP client of an embedder, for whoever needs vectors: gateways, backfill and follower."""

from reembed.client.embedder import BATCH_LIMIT, Embedded, EmbedderClient
from reembed.client.errors import (
    EmbedderBusy,
    EmbedderError,
    EmbedderUnavailable,
    FingerprintMismatch,
    TextInvalid,
    TextRefused,
    TextTooLong,
)

__all__ = [
    "BATCH_LIMIT",
    "Embedded",
    "EmbedderBusy",
    "EmbedderClient",
    "EmbedderError",
    "EmbedderUnavailable",
    "FingerprintMismatch",
    "TextInvalid",
    "TextRefused",
    "TextTooLong",
]
