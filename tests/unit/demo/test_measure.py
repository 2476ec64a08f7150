"""Samples are summed over the labels that were not asked for."""

import pytest

from demo.measure import Peaks, total

METRICS = """\
# HELP reembed_embedder_texts_total Texts embedded.
reembed_embedder_texts_total{input_type="document",priority="background"} 1990.0
reembed_embedder_texts_total{input_type="document",priority="normal"} 10.0
reembed_embedder_texts_total{input_type="query",priority="normal"} 1e+03
reembed_embedder_texts_total_created{input_type="query"} 1.7e+09
process_resident_memory_bytes 9.5e+07
"""


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        pytest.param("reembed_embedder_texts_total", {"input_type": "document"}, 2000.0, id="one label of two"),
        pytest.param("reembed_embedder_texts_total", {}, 3000.0, id="all"),
        pytest.param("process_resident_memory_bytes", {}, 9.5e7, id="without labels"),
        pytest.param("reembed_absent", {}, 0.0, id="none"),
    ],
)
def test_total(name: str, labels: dict[str, str], expected: float) -> None:
    assert total(METRICS, name, labels) == expected


def pod(namespace: str, name: str, *mib: int) -> dict[str, object]:
    containers = [{"memory": {"rssBytes": one * 2**20, "workingSetBytes": 0}} for one in mib]
    return {"podRef": {"namespace": namespace, "name": name}, "containers": containers}


def test_peaks_are_those_of_the_largest_pod_and_unknown_while_none_was_seen() -> None:
    summary = {
        "pods": [
            pod("reembed-system", "reembed-5c9", 80),
            pod("demo", "reembed-gateway-functions-1", 60),
            pod("demo", "reembed-gateway-functions-2", 30, 40),
            pod("another", "reembed-gateway-functions-1", 900),
            pod("demo", "reembed-embedder-starting"),
        ]
    }
    assert Peaks(gateway=65.0).and_also(summary, "demo") == Peaks(operator=80.0, gateway=70.0, embedder=None)
    assert Peaks(gateway=95.0).and_also(summary, "demo").gateway == 95.0
