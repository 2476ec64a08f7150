"""Texts by whose vectors a model is known."""

from __future__ import annotations

# Prose, code and figures: enough to see weights that do not fit a model.
PROBES = (
    "the quick brown fox jumps over the lazy dog",
    "def area(radius: float) -> float:\n    return 3.14159 * radius ** 2",
    "In 1969, 600 million people watched two men walk on the moon; the picture came from 384,400 km away.",
    "a",
    "How do I move a database to another server without losing writes?",
)
