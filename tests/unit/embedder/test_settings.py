"""A pod answers under the name of the model that it was told to run, and of no other."""

from __future__ import annotations

import pytest

from reembed.core.fingerprint import fingerprint
from reembed.embedder.settings import from_environment
from tests import builders

OF_FILE = {
    "REEMBED_MODEL_URI": "https://models/new.gguf",
    "REEMBED_MODEL_SHA256": "0" * 64,
    "REEMBED_POOLING": "Mean",
    "REEMBED_DIMENSIONS": "384",
    "REEMBED_MAX_TOKENS": "512",
}
HOSTED = {
    "REEMBED_MODEL_URI": "https://api.example.com/v1",
    "REEMBED_HOSTED_MODEL": "text-embedding-3-small",
    "REEMBED_MAX_CHARACTERS": "8000",
    "REEMBED_DIMENSIONS": "384",
    "REEMBED_MAX_TOKENS": "512",
}
ANOTHER = fingerprint(builders.model("another"))


@pytest.mark.parametrize(
    "given",
    [OF_FILE, HOSTED, OF_FILE | {"REEMBED_QUERY_PREFIX": "query: "}],
    ids=["a file", "a hosted model", "a file with a prefix"],
)
def test_a_pod_that_is_told_another_models_name_does_not_start(given: dict[str, str]) -> None:
    """Who has the operator's account may write a pod's environment: the name is all that others see of its model."""
    own = fingerprint(from_environment(given | {"REEMBED_FINGERPRINT": "fp-test"}).model)
    assert from_environment(given | {"REEMBED_FINGERPRINT": own}).fingerprint == own
    with pytest.raises(ValueError, match=f"REEMBED_FINGERPRINT is '{ANOTHER}', and the model .* has {own}"):
        from_environment(given | {"REEMBED_FINGERPRINT": ANOTHER})
