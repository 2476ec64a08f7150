"""A connection string to Chroma is read as its author meant, or refused without a word of it."""

from __future__ import annotations

import base64

import pytest

from reembed.stores.chroma.client import Address
from reembed.stores.opening import is_chroma
from reembed.stores.protocol import StoreError

PLACE = "/api/v2/tenants/{}/databases/{}"


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("http://chroma", "http://chroma:8000" + PLACE.format("default_tenant", "default_database")),
        ("https://chroma/", "https://chroma:443" + PLACE.format("default_tenant", "default_database")),
        ("http://chroma:9/a%2Fb/c", "http://chroma:9" + PLACE.format("a%2Fb", "c")),
        ("http://[::1]:9", "http://[::1]:9" + PLACE.format("default_tenant", "default_database")),
    ],
)
def test_an_address_is_read(text: str, base: str) -> None:
    assert (Address.of(text).base, Address.of(text).headers) == (base, {})


def test_a_user_is_sent_as_basic_and_a_token_as_bearer() -> None:
    basic = {"Authorization": "Basic " + base64.b64encode(b"me:se/cret").decode()}
    bearer = {"Authorization": "Bearer token", "X-Chroma-Token": "token"}
    headers = [Address.of(f"https://{who}@chroma").headers for who in ("me:se%2Fcret", ":token")]
    assert headers == [basic, bearer]


@pytest.mark.parametrize(
    "text",
    [
        "ftp://me:secret@chroma",
        "https://me:secret@chroma/only-one",
        "https://me:secret@chroma?ca=c2VjcmV0",
        "https://me:secret@chroma?verify=no",
        "https://me:secret@chroma:port",
    ],
)
def test_what_is_wrong_is_refused_and_no_secret_is_told(text: str) -> None:
    with pytest.raises(StoreError) as refusal:
        Address.of(text)
    assert "secret" not in str(refusal.value).lower().replace("the index's secret", "").replace("the secret", "")
    assert "secret" not in repr(Address.of("https://me:secret@chroma"))


def test_the_scheme_says_which_store_it_is() -> None:
    strings = ("http://chroma", "https://chroma", "postgresql://db/x", "host=db dbname=x")
    assert [is_chroma(text) for text in strings] == [True, True, False, False]
