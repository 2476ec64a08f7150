"""Fixtures of this folder alone: importing the converter of models takes a second that other tests need not spend."""

from tests.fixtures.embedders import embedder, running
from tests.fixtures.file_server import file_server
from tests.fixtures.models import models, references, whole

__all__ = ["embedder", "file_server", "models", "references", "running", "whole"]
