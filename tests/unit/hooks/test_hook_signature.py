"""The signature is what the documentation says, so that receivers in any language can check it."""

from __future__ import annotations

from reembed.hooks.signature import headers


def test_a_known_signature() -> None:
    # printf '1700000000.{"when":"Pre"}' | openssl dgst -sha256 -hmac s3cret
    assert headers(b'{"when":"Pre"}', "uid/1/Pre/x", b"s3cret", 1_700_000_000) == {
        "Content-Type": "application/json",
        "Idempotency-Key": "uid/1/Pre/x",
        "X-Reembed-Timestamp": "1700000000",
        "X-Reembed-Signature": "v1=fb3d1eee2d520cb22d599a6ef660480ad523cfc4595dece08d5f06245e7b53ec",
    }


def test_without_a_secret_nothing_is_signed() -> None:
    assert "X-Reembed-Signature" not in headers(b"{}", "k", None, 1)
