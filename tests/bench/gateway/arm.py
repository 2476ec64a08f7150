"""What answers in the benchmark; apart, since the gateway's process must load nothing that a real one does not."""

from __future__ import annotations

from reembed.core.model import Arm

ARM = Arm("bench", "c_bench", "fp-bench")
