"""What is larger than every node is refused; what a node may come for is waited for."""

from __future__ import annotations

from decimal import Decimal

import pytest

from reembed.core.fitting import Node, never_fits
from reembed.core.model import Variant

SMALL = Node({"size": "small"}, {"cpu": Decimal(2), "memory": Decimal(4 * 2**30)})
LARGE = Node({"size": "large"}, {"cpu": Decimal(64), "memory": Decimal(256 * 2**30), "nvidia.com/gpu": Decimal(1)})


@pytest.mark.parametrize(
    ("needs", "selector", "nodes", "refused"),
    [
        pytest.param({"cpu": "2"}, {}, [SMALL], False, id="as large as the node"),
        pytest.param({"cpu": "2.001"}, {}, [SMALL], True, id="larger than the node"),
        pytest.param({"cpu": "3"}, {}, [SMALL, LARGE], False, id="one node is large enough"),
        pytest.param({"cpu": "3"}, {"size": "small"}, [SMALL, LARGE], True, id="that one it may not run on"),
        pytest.param({"cpu": "3"}, {"size": "huge"}, [SMALL, LARGE], False, id="nodes of its kind may come"),
        pytest.param({"nvidia.com/gpu": "1"}, {}, [SMALL], False, id="a GPU may come"),
        pytest.param({"nvidia.com/gpu": "2"}, {}, [SMALL, LARGE], True, id="more GPUs than any node has"),
        pytest.param({"cpu": "999"}, {}, [], False, id="nodes are not known"),
        pytest.param({}, {}, [SMALL], False, id="it asks for nothing"),
    ],
)
def test_a_pod_is_refused_when_no_node_could_ever_run_it(
    needs: dict[str, str], selector: dict[str, str], nodes: list[Node], refused: bool
) -> None:
    asked = {name: Decimal(amount) for name, amount in needs.items()}
    assert (never_fits(Variant("cpu", node_selector=selector), asked, nodes) is not None) == refused


def test_a_refusal_says_how_much_there_is() -> None:
    found = never_fits(Variant("cpu"), {"memory": Decimal(6 * 2**30 + 2**29)}, [SMALL])
    assert found is not None
    assert (found.reason, found.message) == (
        "NeverFits",
        "a pod of variant 'cpu' asks for memory 6.5Gi, and the largest of the 1 nodes that it may run on has 4Gi for"
        " pods; ask for less, or add a larger node",
    )
