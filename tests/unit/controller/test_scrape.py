"""Of a page of metrics only what is read is taken apart, and as a Prometheus would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from reembed.controller.scrape import samples
from reembed.core.measures import SERIES, counted
from reembed.core.model import Routing
from reembed.gateway.meter import Meter
from tests.fixtures import exposition

PAGE = """# HELP reembed_memory_used_bytes Memory that cannot be reclaimed.
# TYPE reembed_memory_used_bytes gauge
reembed_memory_used_bytes 1.5e+08
python_info{implementation="CPython"} 1.0
reembed_gateway_arm_requests_total{collection="c_ a",outcome="ok",probe="false"} 12.0
reembed_gateway_arm_seconds_bucket{collection="c_\\"b\\"",le="+Inf",probe="true"} 7.0
process_start_time_seconds 1.7e+09
"""


def test_what_is_read_of_a_page_is_what_its_text_says() -> None:
    assert samples(PAGE) == [
        ("reembed_memory_used_bytes", {}, 1.5e8),
        ("reembed_gateway_arm_requests_total", {"collection": "c_ a", "outcome": "ok", "probe": "false"}, 12.0),
        ("reembed_gateway_arm_seconds_bucket", {"collection": 'c_"b"', "le": "+Inf", "probe": "true"}, 7.0),
        ("process_start_time_seconds", {}, 1.7e9),
    ]


def test_a_gateways_page_says_the_same_to_us_as_to_a_prometheus() -> None:
    text = Meter().exposition(Routing()).decode()
    read = [one for one in exposition.parse(text) if one[0].startswith(SERIES)]
    assert (samples(text), counted(samples(text))) == (read, counted(exposition.parse(text)))


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_any_label_is_read_back_as_it_was(label: str, value: float) -> None:
    registry = CollectorRegistry()
    Gauge("reembed_memory_test", "", ["label", "other"], registry=registry).labels(label, "same").set(value)
    assert samples(generate_latest(registry).decode()) == [
        ("reembed_memory_test", {"label": label, "other": "same"}, value)
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("reembed_memory_used_bytes", id="no value"),
        pytest.param("reembed_memory_used_bytes many", id="no number"),
        pytest.param('reembed_memory_used_bytes{a="b 1', id="cut off"),
    ],
)
def test_a_page_that_is_none_is_an_error_and_not_half_a_measurement(text: str) -> None:
    with pytest.raises(ValueError, match="not a line of Prometheus' text format"):
        samples(text)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_what_is_no_number_was_not_measured(value: str) -> None:
    assert samples(f"reembed_memory_used_bytes {value}\nreembed_memory_limit_bytes 5\n") == [
        ("reembed_memory_limit_bytes", {}, 5.0)
    ]
