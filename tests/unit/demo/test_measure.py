"""Figures are what live processes say, and what nobody can say is unknown."""

import pytest

from demo.measure import Counts, Peaks, embedded, embedded_documents, peaks, total
from tests.unit.demo.fake_kubectl import FakeKubectl, FakePod

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


def embedder(name: str, started: float, documents: int) -> FakePod:
    text = f'reembed_embedder_texts_total{{input_type="document"}} {documents}\nprocess_start_time_seconds {started}\n'
    return FakePod("demo", name, text)


def using(namespace: str, name: str, mib: int, anonymous_mib: int = 1) -> FakePod:
    return FakePod(namespace, name, f"process_resident_memory_bytes {mib * 2**20}\n", anonymous_mib)


async def test_peaks_are_resident_memory_of_operator_and_gateway_and_anonymous_memory_of_the_embedder() -> None:
    pods = [
        using("reembed-system", "reembed-5c9", 80),
        using("demo", "reembed-gateway-functions-1", 60),
        using("demo", "reembed-gateway-functions-2", 70),
        using("another", "reembed-gateway-functions-1", 900),
        using("demo", "reembed-embedder-minilm-1", 400, anonymous_mib=170),
    ]
    expected = Peaks(operator=80.0, gateway=70.0, embedder=170.0)
    assert await peaks(Peaks(), FakeKubectl("demo", pods=pods)) == expected


async def test_a_peak_stays_and_is_unknown_while_none_was_seen() -> None:
    pods = [using("demo", "reembed-gateway-functions-1", 60), FakePod("demo", "reembed-embedder-starting")]
    assert await peaks(Peaks(gateway=95.0), FakeKubectl("demo", pods=pods)) == Peaks(gateway=95.0)


async def test_a_pod_that_does_not_answer_is_passed_over() -> None:
    pods = [FakePod("reembed-system", "reembed-killed"), using("demo", "reembed-gateway-functions-1", 60)]
    assert await peaks(Peaks(), FakeKubectl("demo", pods=pods)) == Peaks(gateway=60.0)


async def test_documents_are_counted_for_each_process_that_answers() -> None:
    pods = [embedder("a", 100.5, 7), embedder("b", 200.0, 8), FakePod("demo", "killed")]
    found = await embedded_documents(FakeKubectl("demo", pods=pods), "minilm-l6")
    assert found == {("a", 100.5): 7, ("b", 200.0): 8}


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        pytest.param([{("a", 1.0): 3}, {("a", 1.0): 1503}], 1500, id="one pod"),
        pytest.param([{("a", 1.0): 3}, {("a", 1.0): 1003, ("b", 2.0): 500}], 1500, id="a pod came"),
        pytest.param([{}, {("a", 1.0): 1500}], 1500, id="the first pod came"),
        pytest.param([{("a", 1.0): 3}, {("a", 1.0): 3}], 0, id="none was embedded"),
        pytest.param([{("a", 1.0): 3}, {("a", 2.0): 1500}], None, id="a container was restarted"),
        pytest.param([{}, {("a", 1.0): 9}, {("b", 2.0): 1500}], None, id="a pod was replaced"),
        pytest.param([{("a", 1.0): 3}, {}], None, id="all pods are gone"),
        pytest.param([{}, {}], None, id="no pod was ever seen"),
    ],
)
def test_documents_are_known_only_while_every_process_lives_that_counted_them(
    readings: list[Counts], expected: int | None
) -> None:
    assert embedded(readings) == expected
