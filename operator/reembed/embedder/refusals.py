"""Why an embedder cannot serve its model: told to Kubernetes by the termination message and the exit status."""

from __future__ import annotations

import json
from pathlib import Path


class Refusal(Exception):
    """The model cannot be served. `permanent` means that waiting and trying again cannot heal it."""

    permanent = True
    reason = "ModelRefused"

    @property
    def exit_status(self) -> int:
        return 2 if self.permanent else 3

    def leave(self, log: Path) -> None:
        """Write the last words where Kubernetes looks for them."""
        log.write_text(json.dumps({"reason": self.reason, "message": str(self)}))


class ChecksumMismatch(Refusal):
    reason = "ModelChecksumMismatch"


class NotGGUF(Refusal):
    reason = "ModelNotGGUF"


class DimensionsMismatch(Refusal):
    reason = "ModelDimensionsMismatch"


class ArchitectureUnsupported(Refusal):
    reason = "ModelArchitectureUnsupported"


class Unavailable(Refusal):
    reason = "ModelUnavailable"
    permanent = False


class Truncated(Refusal):
    reason = "ModelDownloadTruncated"
    permanent = False
