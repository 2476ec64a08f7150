"""What an agent thinks of a proposal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reembed.core.quorum.certificates import Choice


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an agent votes: reasons as "Reason: message", the deciding one first, and what it measured as small JSON."""

    choice: Choice
    reasons: tuple[str, ...]
    evidence: dict[str, Any]
