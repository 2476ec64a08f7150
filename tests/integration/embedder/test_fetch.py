"""Downloads over a real connection: taken up, begun again, refused, each with the words that an operator would read."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from demo.models import sha256_of
from reembed.core.model import Model, Pooling
from reembed.embedder.download import _why_not_connected
from reembed.embedder.fetch import Retries, fetch
from reembed.embedder.refusals import (
    ChecksumMismatch,
    DimensionsMismatch,
    NotGGUF,
    Refusal,
    Truncated,
    Unavailable,
)
from tests.fixtures.file_server import FileServer
from tests.fixtures.models import SMALL, ModelFile

_FAST = Retries(fruitless=3, pause=0.001, open_seconds=0.001, openings=1)
_HALF = 5_000_000


def _names(directory: Path) -> list[str]:
    """Return what is in a cache beside its locks."""
    return [path.name for path in directory.iterdir() if path.suffix != ".lock"]


async def test_a_file_is_fetched_once_and_then_found(whole: Model, file_server: FileServer, tmp_path: Path) -> None:
    first = await fetch(whole, tmp_path, _FAST)
    assert (sha256_of(first), await fetch(whole, tmp_path, _FAST), file_server.asked) == (whole.sha256, first, [""])


async def test_a_cut_download_is_taken_up(whole: Model, file_server: FileServer, tmp_path: Path) -> None:
    file_server.cuts, file_server.cut_after = 2, _HALF
    path = await fetch(whole, tmp_path, _FAST)
    assert (sha256_of(path), file_server.asked) == (whole.sha256, ["", f"bytes={_HALF}-", f"bytes={2 * _HALF}-"])


async def test_another_start_takes_up_what_an_earlier_one_left(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    (tmp_path / f"{whole.sha256}.part").write_bytes(file_server.data[:_HALF])
    path = await fetch(whole, tmp_path, _FAST)
    assert (sha256_of(path), file_server.asked) == (whole.sha256, [f"bytes={_HALF}-"])


async def test_what_was_left_of_another_file_is_thrown_away(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    data = file_server.data
    (tmp_path / f"{whole.sha256}.part").write_bytes(data[: _HALF - 1] + bytes([data[_HALF - 1] ^ 1]))
    path = await fetch(whole, tmp_path, _FAST)
    assert (sha256_of(path), file_server.asked) == (whole.sha256, [f"bytes={_HALF}-", ""])


async def test_what_was_left_of_no_model_is_thrown_away(whole: Model, file_server: FileServer, tmp_path: Path) -> None:
    (tmp_path / f"{whole.sha256}.part").write_bytes(b"<html>")
    path = await fetch(whole, tmp_path, _FAST)
    assert (sha256_of(path), file_server.asked) == (whole.sha256, [""])


async def test_a_file_replaced_while_it_is_read_is_fetched_in_one_piece(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    new = file_server.data
    file_server.data, file_server.next_data = new[: _HALF - 1] + bytes([new[_HALF - 1] ^ 1]) + new[_HALF:], new
    file_server.cuts, file_server.cut_after = 1, _HALF
    path = await fetch(whole, tmp_path, _FAST)
    assert (sha256_of(path), file_server.asked) == (whole.sha256, ["", f"bytes={_HALF}-", ""])


async def test_a_server_without_ranges_begins_again(whole: Model, file_server: FileServer, tmp_path: Path) -> None:
    file_server.cuts, file_server.cut_after, file_server.ranges = 1, _HALF, False
    assert sha256_of(await fetch(whole, tmp_path, _FAST)) == whole.sha256


async def test_a_server_in_trouble_is_asked_again(whole: Model, file_server: FileServer, tmp_path: Path) -> None:
    file_server.statuses = [503, 500]
    assert sha256_of(await fetch(whole, tmp_path, _FAST)) == whole.sha256


async def _refused(model: Model, cache: Path) -> tuple[type[Refusal], str]:
    with pytest.raises(Refusal) as caught:
        await fetch(model, cache, _FAST)
    return type(caught.value), str(caught.value)


async def test_a_download_that_never_goes_on_is_truncated(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    file_server.cuts, file_server.cut_after, file_server.ranges = 1000, _HALF, False
    kind, message = await _refused(whole, tmp_path)
    assert kind is Truncated
    assert f"{whole.uri} ended after {_HALF} bytes, and 3 more tries brought nothing new" in message


async def test_a_file_that_is_not_whole_where_it_is_served_is_truncated(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    size = len(file_server.data)
    file_server.data = file_server.data[:_HALF]
    kind, message = await _refused(whole, tmp_path)
    assert kind is Truncated
    assert f"{whole.uri} ends after {_HALF} bytes, its GGUF header describes {size}; nothing is served" in message


@pytest.mark.parametrize("length", [10, 100_000, _HALF], ids=["first bytes", "within the header", "within the weights"])
async def test_a_local_file_that_is_not_whole_is_truncated(
    models: dict[str, ModelFile], tmp_path: Path, length: int
) -> None:
    cut = tmp_path / "model.gguf"
    cut.write_bytes(models[SMALL].path.read_bytes()[:length])
    kind, message = await _refused(Model(cut.as_uri(), models[SMALL].sha256, Pooling.MEAN, 384, 256), tmp_path)
    assert (kind, message.partition(", ")[0]) == (Truncated, f"{cut} ends after {length} bytes")


async def test_a_whole_file_that_is_all_header_is_no_model(tmp_path: Path) -> None:
    made = tmp_path / "model.gguf"
    made.write_bytes(b"GGUF")
    kind, message = await _refused(Model(made.as_uri(), sha256_of(made), Pooling.MEAN, 384, 256), tmp_path)
    assert (kind, message) == (NotGGUF, f"{made} ends within its GGUF header (4 bytes); convert the model again")


async def test_a_file_that_cannot_be_read_is_unavailable(tmp_path: Path) -> None:
    # Nobody may read the beginning of a process's memory, not even root.
    kind, message = await _refused(Model("file:///proc/self/mem", "0" * 64, Pooling.MEAN, 384, 256), tmp_path)
    assert (kind, message.partition(";")[0]) == (Unavailable, "/proc/self/mem can't be read (Input/output error)")


async def test_another_sum_is_refused_and_nothing_is_kept(whole: Model, tmp_path: Path) -> None:
    kind, message = await _refused(replace(whole, sha256="0" * 64), tmp_path)
    assert kind is ChecksumMismatch
    assert f"has sha256 {whole.sha256} (35" in message
    assert f"the pool expects {'0' * 64}; nothing is served" in message
    assert _names(tmp_path) == []


async def test_another_format_is_refused_by_its_first_bytes(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    file_server.data = b"PK\3\4" + bytes(50_000_000)
    kind, message = await _refused(whole, tmp_path)
    assert (kind, _names(tmp_path)) == (NotGGUF, [])
    assert "begins with b'PK\\x03\\x04', a GGUF file with b'GGUF'; convert the model" in message


async def test_other_dimensions_are_refused_by_the_header(
    whole: Model, file_server: FileServer, tmp_path: Path
) -> None:
    file_server.cuts, file_server.cut_after = 1000, 2_000_000
    kind, message = await _refused(replace(whole, dimensions=768), tmp_path)
    assert (kind, file_server.asked, _names(tmp_path)) == (DimensionsMismatch, [""], [])
    assert "vectors have 384 dimensions, the pool says 768" in message


async def test_a_missing_file_is_not_asked_for_twice(whole: Model, file_server: FileServer, tmp_path: Path) -> None:
    file_server.statuses = [404]
    kind, message = await _refused(whole, tmp_path)
    assert (kind, file_server.asked) == (Unavailable, [""])
    assert "answers 404 Not Found; correct spec.model.uri" in message


async def test_an_unreachable_server_is_named_without_credentials(tmp_path: Path) -> None:
    model = Model("http://user:secret@127.0.0.1:9/m.gguf?token=hidden", "0" * 64, Pooling.MEAN, 384, 256)
    kind, message = await _refused(model, tmp_path)
    assert kind is Unavailable
    assert "http://127.0.0.1:9/m.gguf can't be read (Connection refused in 3 tries)" in message
    assert "secret" not in message
    assert "hidden" not in message


async def test_a_server_without_tls_is_told_as_such(whole: Model, tmp_path: Path) -> None:
    kind, message = await _refused(replace(whole, uri=whole.uri.replace("http://", "https://")), tmp_path)
    assert kind is Unavailable
    assert "can't be read (it speaks no TLS that is understood: " in message


def test_a_certificate_that_is_not_trusted_is_told_as_such() -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    assert _why_not_connected(error) == "its certificate is not trusted: self-signed certificate"


async def test_a_local_file_is_used_where_it_is(models: dict[str, ModelFile], tmp_path: Path) -> None:
    local = models[SMALL]
    assert await fetch(Model(local.path.as_uri(), local.sha256, Pooling.MEAN, 384, 256), tmp_path) == local.path
    missing = Model((tmp_path / "none.gguf").as_uri(), local.sha256, Pooling.MEAN, 384, 256)
    assert await _refused(missing, tmp_path) == (
        Unavailable,
        f"there is no file {tmp_path}/none.gguf; look at spec.model.uri and at what the claim holds",
    )
