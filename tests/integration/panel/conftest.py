"""Fixtures of this folder alone."""

from tests.fixtures.embedders import embedder
from tests.fixtures.models import models

__all__ = ["embedder", "models"]
