"""Whether this pod's vectors are of its collection's class: its probes beside those of the pod that was first.

What that one found comes as a file (a ConfigMap that the operator makes of a ready pod's word). As long as it is not
there the pod serves: somebody has to be first, and a way back must not wait for an operator. It looks again whenever
Kubernetes asks whether it is ready, until the file was there once. A pod that agreed is settled; one that does not is
never ready, or not any more, and ends. Explained in docs/design/20261129-class-of-a-model.md.
"""

from __future__ import annotations

import asyncio
import logging
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from reembed.core.model_class import mismatch
from reembed.core.sketch import cosine
from reembed.embedder.refusals import ClassMismatch

_log = logging.getLogger("reembed.embedder")

_ENGINE = "llama-cpp-python"


class Membership:
    """What is known of a pod and its class. All methods belong to one event loop."""

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self.probes = ""  # a sketch of their vectors here; empty before they were embedded
        self.cosine: float | None = None  # with those of the class; None as long as that is not known
        self.refusal: ClassMismatch | None = None
        self.ends = asyncio.Event()  # there is a refusal

    def begin(self, probes: str) -> None:
        """Compare the probes as they were found here, if there is anything to compare them with.

        Raises:
            ClassMismatch: they are of another class.

        """
        self.probes = probes
        self.holds()
        if self.refusal is not None:
            raise self.refusal
        if self.cosine is None and self._path is not None:
            _log.info("nobody said yet what the class of %s is; it is looked for from time to time", self._fingerprint)

    def holds(self) -> bool:
        """Look, unless that is settled, and return whether nothing is known against this pod."""
        if self.refusal is None and self.cosine is None and (known := self._known()) is not None:
            self._compare(known)
        return self.refusal is None

    def _known(self) -> str | None:
        if self._path is None:
            return None
        try:
            return self._path.read_text(errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _compare(self, known: str) -> None:
        found = cosine(known.strip(), self.probes)
        why = mismatch(self._fingerprint, found)
        if why is not None:
            self.refusal = ClassMismatch(why)
            self.ends.set()
            return
        self.cosine = found
        _log.info("this pod is of the class of %s: cosine of the probes %.5f", self._fingerprint, found)


def engine() -> str:
    """Return what multiplies here, with its version where that is known."""
    try:
        return f"{_ENGINE} {version(_ENGINE)}"
    except PackageNotFoundError:
        return _ENGINE
