"""Files of the hub and of S3 over real connections: who asks is proved to whom it concerns, and told to nobody else."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from demo.models import sha256_of
from reembed.core.model import Model
from reembed.embedder.fetch import Means, Retries, fetch
from reembed.embedder.refusals import Refusal, Unavailable
from reembed.embedder.sources import Access
from tests.fixtures.file_server import FileServer, serving

_FAST = Retries(fruitless=2, pause=0.001, open_seconds=0.001, openings=1)
_HALF = 5_000_000
_KEY = "wJalrXUtnFEMI/K7MDENG"


@pytest.fixture
def whole(whole: Model) -> Model:
    """Return a pool's description of the small model as if it were in a bucket."""
    return replace(whole, uri="s3://models/mini lm/f.gguf")


def _base(server: FileServer) -> str:
    return server.url.rpartition("/")[0]


async def _refused(model: Model, cache: Path, access: Access) -> str:
    with pytest.raises(Refusal) as refusal:
        await fetch(model, cache, _FAST, Means(access))
    assert refusal.type is Unavailable
    return str(refusal.value)


def _only_signed(handler: BaseHTTPRequestHandler) -> int:
    """Answer as S3 does: 403 unless the query's signature is right (Signature Version 4, presigned)."""
    url = urlsplit(handler.path)
    query = dict(parse_qsl(url.query))
    given = query.pop("X-Amz-Signature", "")
    if not given:
        return 403
    _, *scope = query["X-Amz-Credential"].split("/")
    ordered = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()))
    host = f"host:{handler.headers['Host']}\n"
    asked = "\n".join(("GET", url.path, ordered, host, "host", "UNSIGNED-PAYLOAD"))
    digest = hashlib.sha256(asked.encode()).hexdigest()
    key = f"AWS4{_KEY}".encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    text = "\n".join((query["X-Amz-Algorithm"], query["X-Amz-Date"], "/".join(scope), digest))
    return 0 if hmac.digest(key, text.encode(), "sha256").hex() == given else 403


def _of_s3(server: FileServer, **more: str) -> Access:
    return Access(s3_endpoint=_base(server), access_key="AKIA", secret_key=_KEY, **more)


async def test_a_bucket_that_wants_a_signature_gets_the_right_one_also_after_a_cut(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    file_server.guard, file_server.cuts, file_server.cut_after = _only_signed, 1, _HALF
    path = await fetch(whole, tmp_path, _FAST, Means(_of_s3(file_server, region="eu-west-3")))
    assert (sha256_of(path), file_server.asked) == (
        whole.sha256,
        ["", f"bytes={_HALF}-"],
    )


async def test_a_wrong_key_is_told_without_it(whole: Model, file_server: FileServer, tmp_path: Path) -> None:
    file_server.guard = _only_signed
    message = await _refused(whole, tmp_path, replace(_of_s3(file_server), secret_key="another"))
    assert message == (
        "s3://models/mini lm/f.gguf answers 403 Forbidden; it wants to know who asks: name a Secret with credentials "
        "in spec.download.secretName, or look at what it holds and may read"
    )


async def test_a_bucket_for_everybody_needs_no_key(whole: Model, file_server: FileServer, tmp_path: Path) -> None:
    path = await fetch(whole, tmp_path, _FAST, Means(Access(s3_endpoint=_base(file_server))))
    assert path.stat().st_size == len(file_server.data)


async def test_a_bucket_elsewhere_says_where(whole: Model, file_server: FileServer, tmp_path: Path) -> None:
    file_server.statuses, file_server.sends = [301], {"x-amz-bucket-region": "eu-central-1"}
    message = await _refused(whole, tmp_path, _of_s3(file_server))
    assert "answers 301 Moved Permanently; the bucket is in eu-central-1: set spec.download.region to it" in message


async def test_the_hubs_token_does_not_follow_to_where_the_hub_keeps_its_files(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    seen: list[tuple[str, str | None]] = []

    def storage(handler: BaseHTTPRequestHandler) -> int:
        seen.append((handler.path, handler.headers.get("Authorization")))
        return 0

    def hub(handler: BaseHTTPRequestHandler) -> int:
        seen.append((handler.path, handler.headers.get("Authorization")))
        return 302

    file_server.guard = storage
    with serving() as front:
        # Another name of the same machine is another host.
        elsewhere = file_server.url.replace("127.0.0.1", "localhost")
        front.guard, front.sends = hub, {"Location": f"{elsewhere}?signed=yes%2Fno"}
        access = Access(hub=_base(front), hub_token="word")
        model = replace(whole, uri="hf://owner/repository/q8/f.gguf@v1.5")
        path = await fetch(model, tmp_path, _FAST, Means(access))
    assert (path.stat().st_size, seen) == (
        len(file_server.data),
        [
            ("/owner/repository/resolve/v1.5/q8/f.gguf", "Bearer word"),
            ("/model.gguf?signed=yes%2Fno", None),
        ],
    )


@pytest.mark.parametrize("status", [401, 403])
async def test_a_gated_model_says_that_it_needs_a_secret(
    whole: Model, file_server: FileServer, tmp_path: Path, status: int
) -> None:
    file_server.statuses = [status]
    access = Access(hub=_base(file_server))
    message = await _refused(replace(whole, uri="hf://owner/gated/f.gguf"), tmp_path, access)
    assert f"hf://owner/gated/f.gguf answers {status}" in message
    assert "name a Secret with credentials in spec.download.secretName" in message
