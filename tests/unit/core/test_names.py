"""Names are the same after every restart and fit where Kubernetes wants them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from reembed.core import names
from reembed.core.fingerprint import fingerprint
from reembed.core.model import Truncate
from tests import builders as b

OBJECT_NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,251}[a-z0-9])?", fullmatch=True)


@given(OBJECT_NAMES)
def test_every_name_fits_a_label(name: str) -> None:
    made = [names.gateway(name), names.worker(name), names.embedder(name, "cpu"), names.embedder_service(name)]
    made.append(names.backfill_job(name, 1, {"a": 1}))
    assert max(len(one) for one in made) <= 63


@given(OBJECT_NAMES, OBJECT_NAMES)
def test_different_indexes_have_different_gateways(one: str, other: str) -> None:
    assert (names.gateway(one) == names.gateway(other)) is (one == other)


def test_another_template_is_another_job() -> None:
    jobs = {names.backfill_job("move", 1, {"image": image}) for image in ("a", "b", "a")}
    assert len(jobs) == 2


def test_each_attempt_fills_a_collection_of_its_own() -> None:
    assert names.collection("uid", 1) != names.collection("uid", 2)


def test_whatever_changes_vectors_changes_the_fingerprint_and_nothing_else_does() -> None:
    model = b.model()
    changed = [
        replace(model, sha256="1" * 64),
        replace(model, max_tokens=128),
        replace(model, truncate=Truncate.REFUSE),
        replace(model, query_prefix="q: "),
        replace(model, document_prefix="q: "),
        replace(model, dimensions=128),
    ]
    assert len({fingerprint(one) for one in (model, *changed)}) == 7
    assert fingerprint(replace(model, uri="file:///models/moved.gguf")) == fingerprint(model)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.2.3", "10.1.2.3:8080"),
        ("fd00:10:244::7", "[fd00:10:244::7]:8080"),
        ("::1", "[::1]:8080"),
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("[::1]:9000", "[::1]:9000"),
    ],
)
def test_a_pod_is_asked_at_its_address_whatever_kind_it_is(address: str, expected: str) -> None:
    host, _, port = expected.rpartition(":")
    url = URL(f"http://{names.at(address, 8080)}/metrics")
    assert (names.at(address, 8080), url.host, url.port) == (expected, host.strip("[]"), int(port))
