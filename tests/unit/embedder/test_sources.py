"""Where a file is asked for, as whom, and what is shown of that."""

from __future__ import annotations

import pytest

from reembed.embedder.refusals import Unavailable
from reembed.embedder.sources import Access, access_from, request, shown

NOBODY = Access()
SOMEBODY = Access(hub_token="word", access_key="AK", secret_key="hidden", session_token="brief", region="eu-central-1")


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("https://h/p%20q?token=t", "https://h/p%20q?token=t"),
        ("hf://nomic-ai/embed/f.gguf", "https://huggingface.co/nomic-ai/embed/resolve/main/f.gguf"),
        ("hf://o/r/a b/f.gguf@refs/pr/3", "https://huggingface.co/o/r/resolve/refs%2Fpr%2F3/a%20b/f.gguf"),
        ("s3://bucket/a b/f.gguf", "https://s3.us-east-1.amazonaws.com/bucket/a%20b/f.gguf"),
    ],
)
def test_without_credentials_a_plain_address_is_asked(uri: str, url: str) -> None:
    asked = request(uri, NOBODY)
    assert (str(asked.url), asked.headers) == (url, {})


def test_a_mirror_and_a_token_are_for_the_hub_alone() -> None:
    access = access_from({"HF_ENDPOINT": "http://mirror:8080/hub/", "HF_TOKEN": "word"})
    asked = request("hf://o/r/f.gguf@v1", access)
    assert (str(asked.url), asked.headers) == (
        "http://mirror:8080/hub/o/r/resolve/v1/f.gguf",
        {"Authorization": "Bearer word"},
    )
    assert request("https://h/f.gguf", access).headers == {}


def test_what_a_secret_has_from_its_file_is_no_part_of_it() -> None:
    lines = {"HF_TOKEN": "word\n", "AWS_ACCESS_KEY_ID": "AK\n", "AWS_SECRET_ACCESS_KEY": "hidden\r\n"}
    access = access_from(lines)
    assert (access.hub_token, access.access_key, access.secret_key) == ("word", "AK", "hidden")


def test_a_signed_address_names_who_asks_and_follows_nobody() -> None:
    asked = request("s3://bucket/f.gguf", SOMEBODY)
    query = asked.url.query
    assert (asked.redirects, asked.url.path, query["X-Amz-Security-Token"]) == (False, "/bucket/f.gguf", "brief")
    assert query["X-Amz-Credential"].startswith("AK/")
    assert "/eu-central-1/s3/" in query["X-Amz-Credential"]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("hf://owner/file.gguf", "hf://owner/file.gguf names no file; spec.model.uri is hf://OWNER/REPO/PATH"),
        ("s3://bucket", "s3://bucket names no file; spec.model.uri is s3://BUCKET/KEY"),
        ("ftp://h/f", "spec.model.uri has the scheme 'ftp'; http, https, hf, s3 and file are known"),
        ("http://[h/f", "http://[h/f is no address; correct spec.model.uri"),
    ],
)
def test_what_names_no_file_is_refused(uri: str, message: str) -> None:
    with pytest.raises(Unavailable) as refused:
        request(uri, NOBODY)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("https://me:word@h:8/p?token=t", "https://h:8/p"),
        ("http://h:8/model@v1.gguf", "http://h:8/model@v1.gguf"),
        ("http://[::1]:8/model@v1.gguf", "http://[::1]:8/model@v1.gguf"),
        ("s3://b/k", "s3://b/k"),
        ("hf://o/r/f@v", "hf://o/r/f@v"),
        *((f"http://me:wo{sign}rd@h/p", "http://...") for sign in "/?#"),
    ],
)
def test_credentials_in_an_address_are_not_shown(uri: str, text: str) -> None:
    assert shown(uri) == text


def test_nothing_that_proves_who_asks_is_written_with_a_request() -> None:
    written = f"{SOMEBODY!r} {request('s3://b/k', SOMEBODY)!r} {request('hf://o/r/f', SOMEBODY)!r}"
    assert [word for word in ("word", "AK", "hidden", "brief", "Signature") if word in written] == []
