"""What a gateway says of its own process, for whoever watches its memory."""

from reembed.gateway.meter import Meter
from tests.fixtures.exposition import samples


def test_the_process_tells_its_resident_memory() -> None:
    (resident,) = (value for name, _, value in samples(Meter()) if name == "process_resident_memory_bytes")
    assert resident > 2**20
