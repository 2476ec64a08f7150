"""What a pod says of its class."""

from __future__ import annotations

from typing import Any

from reembed.api.fields import Fields
from reembed.api.hosted import LONGEST_SKETCH
from reembed.core.model_class import ModelClass

_LONGEST_WORD = 256


def parse_class_said(raw: Any, pod: str) -> ModelClass:
    """Return what a pod said.

    Raises:
        InvalidField: it is not what pods say.

    """
    said = Fields(raw, "class")
    return ModelClass(
        fingerprint=said.text("fingerprint"),
        probes=said.text("probes")[:LONGEST_SKETCH],
        weights=said.text("weights", "")[:_LONGEST_WORD],
        engine=said.text("engine", "")[:_LONGEST_WORD],
        pod=pod,
    )
