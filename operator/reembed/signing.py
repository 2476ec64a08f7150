"""Ed25519 signatures, by the `cryptography` library; `core.quorum` says what is signed and what a signature means."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class SigningKey:
    """One agent's private key. Never shown: its `repr` names the public key."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def new(cls) -> SigningKey:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def of(cls, raw: bytes) -> SigningKey:
        """Return the key of 32 bytes that `raw` returned before.

        Raises:
            ValueError: they are not 32 bytes.

        """
        return cls(Ed25519PrivateKey.from_private_bytes(raw))

    def raw(self) -> bytes:
        """Return the 32 bytes to keep in the agent's own Secret."""
        return self._private.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether the owner of the public key signed the message; false for what is no key or no signature."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
