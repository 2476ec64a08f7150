"""Why an embedder cannot serve its model: told to Kubernetes by the termination message and the exit status.

The reasons are part of the pool's API: the operator shows them in the pool's status and, where waiting cannot heal
them, fails a migration at once instead of at its deadline.
"""

from __future__ import annotations

import json
from pathlib import Path

from reembed.core.reasons import MODEL_CLASS_MISMATCH


class Refusal(Exception):
    """The model cannot be served; the text says what was found and what to do."""

    reason: str
    exit_status: int

    def leave(self, log: Path) -> None:
        """Write the last words where Kubernetes looks for them."""
        log.write_text(json.dumps({"reason": self.reason, "message": str(self)}, ensure_ascii=False))


class PermanentRefusal(Refusal):
    """Waiting and trying again cannot heal it."""

    exit_status = 2


class PassingRefusal(Refusal):
    """Another attempt may succeed."""

    exit_status = 3


class ChecksumMismatch(PermanentRefusal):
    reason = "ModelChecksumMismatch"


class NotGGUF(PermanentRefusal):
    reason = "ModelNotGGUF"


class DimensionsMismatch(PermanentRefusal):
    reason = "ModelDimensionsMismatch"


class PoolingMismatch(PermanentRefusal):
    reason = "ModelPoolingMismatch"


class ArchitectureUnsupported(PermanentRefusal):
    reason = "ModelArchitectureUnsupported"


class MemoryInsufficient(PermanentRefusal):
    """The container's limit is below what the model needs; a higher one makes other pods."""

    reason = "MemoryInsufficient"


class ValidationFailed(PermanentRefusal):
    """The model's vectors are not what the pool's reference vectors say."""

    reason = "ModelValidationFailed"


class ReferencesMissing(PassingRefusal):
    """The pool's reference vectors are not there; somebody may bring them."""

    reason = "ModelReferencesMissing"


class ClassMismatch(PassingRefusal):
    """The pod's vectors are not those of its collection's class; on another node, or of another image, they may be."""

    reason = MODEL_CLASS_MISMATCH


class EndpointRefused(PassingRefusal):
    """A hosted model's endpoint does not take the pool's requests; its key, its URL or the endpoint may be mended."""

    reason = "EndpointRefused"


class StorageFull(PassingRefusal):
    """The cache has no room for the file; others may make some."""

    reason = "ModelStorageFull"


class Unavailable(PassingRefusal):
    reason = "ModelUnavailable"


class Truncated(PassingRefusal):
    reason = "ModelDownloadTruncated"
