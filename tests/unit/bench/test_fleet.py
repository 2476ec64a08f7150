"""What stands for a fleet's pods is what the operator reads of real ones."""

from __future__ import annotations

from reembed.controller.scrape import samples
from tests.bench.fleet.pods import _embedder_page


def test_the_page_of_an_embedder_is_one_that_is_read() -> None:
    found = {name: value for name, labels, value in samples(_embedder_page()) if not labels}
    assert (found["reembed_memory_used_bytes"], found["reembed_memory_limit_bytes"]) == (180e6, 512e6)
    assert "reembed_embedder_queue_tokens" in found
