"""The runner of HTTP hooks against a real server: what is tried again, what is final, and what is told of it."""

from __future__ import annotations

import re
import signal
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from hack.cache import ROOT
from tests.cluster.pki import Authority
from tests.integration.hooks.receiving import (
    BODY,
    KEY,
    SECRET,
    answer,
    ended,
    receiving,
    run_hook,
    start_hook,
)


def documented() -> Callable[[dict[str, str], bytes, bytes], bool]:
    """Return the function that docs/hooks.md shows."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/hooks.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    found: Callable[[dict[str, str], bytes, bytes], bool] = names["is_from_reembed"]
    return found


def host(url: str) -> str:
    return url.split("/")[2]


async def test_a_call_that_is_taken(tmp_path: Path) -> None:
    async with receiving(answer(200, "noted\nand more")) as receiver:
        left = await run_hook(tmp_path, receiver.url)
    (received,) = receiver.received
    assert (left.code, left.said) == (0, f"{host(receiver.url)} answered 200: noted")
    assert (received.path, received.body.decode()) == ("/in/p4th?token=t0ken", BODY)
    assert received.headers["Content-Type"] == "application/json"


async def test_the_documented_check_accepts_what_was_sent_and_nothing_else(tmp_path: Path) -> None:
    async with receiving(answer(204)) as receiver:
        await run_hook(tmp_path, receiver.url)
    (received,) = receiver.received
    is_from_reembed = documented()
    headers, body = dict(received.headers), received.body
    old = headers | {"X-Reembed-Timestamp": str(int(headers["X-Reembed-Timestamp"]) - 600)}
    assert is_from_reembed(headers, body, SECRET.encode())
    assert not is_from_reembed(headers, body + b" ", SECRET.encode())
    assert not is_from_reembed(headers, body, b"another")
    assert not is_from_reembed(old, body, SECRET.encode())


async def test_every_attempt_has_the_same_key_and_body(tmp_path: Path) -> None:
    async with receiving(answer(503), answer(0), answer(429), answer(200)) as receiver:
        left = await run_hook(tmp_path, receiver.url)
    said = {(one.headers["Idempotency-Key"], one.body.decode()) for one in receiver.received}
    assert (left.code, len(receiver.received), said) == (0, 4, {(KEY, BODY)})


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_again(tmp_path: Path, status: int) -> None:
    async with receiving(answer(status, "not now"), answer(200)) as receiver:
        left = await run_hook(tmp_path, receiver.url)
    assert (left.code, len(receiver.received)) == (0, 2)
    assert left.logged[0] == f"attempt 1 of 4: {host(receiver.url)} answered {status}: not now"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422])
async def test_a_refusal_is_final_and_its_first_line_is_told(tmp_path: Path, status: int) -> None:
    async with receiving(answer(status, "\n  deploys are frozen \x07until Monday\nask ops")) as receiver:
        left = await run_hook(tmp_path, receiver.url)
    assert (left.code, len(receiver.received)) == (1, 1)
    assert left.said == f"{host(receiver.url)} answered {status}: deploys are frozen until Monday"


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    async with receiving(answer(200)) as other, receiving(answer(307, Location=other.url)) as receiver:
        left = await run_hook(tmp_path, receiver.url)
    text = f"{host(receiver.url)} answered 307; redirects are not followed: write the final address into http.url"
    assert (left.code, left.said, other.received) == (1, text, [])


async def test_retries_come_to_an_end(tmp_path: Path) -> None:
    async with receiving(answer(500, "boom")) as receiver:
        left = await run_hook(tmp_path, receiver.url, RETRIES="1")
    text = f"{host(receiver.url)} answered 500: boom; gave up after 2 attempts: http.retries is 1"
    assert (left.code, left.said, len(receiver.received)) == (1, text, 2)


async def test_a_server_that_never_answers_leaves_time_for_another_attempt(tmp_path: Path) -> None:
    async with receiving(answer(-1), answer(200)) as receiver:
        left = await run_hook(tmp_path, receiver.url, TIMEOUT="4", RETRIES="1")
    text = f"attempt 1 of 2: {host(receiver.url)} did not answer within 2 s, an attempt's share of the timeout of 4 s"
    assert (left.code, left.logged[0]) == (0, text)


async def test_the_hooks_timeout_ends_all_attempts(tmp_path: Path) -> None:
    async with receiving(answer(-1)) as receiver:
        left = await run_hook(tmp_path, receiver.url, TIMEOUT="1", RETRIES="0")
    text = f"{host(receiver.url)} did not answer within 1 s, an attempt's share of the timeout of 1 s"
    assert (left.code, left.said) == (1, f"{text}; gave up after 1 attempt: http.retries is 0")


@pytest.mark.parametrize(
    "wish",
    [
        pytest.param(lambda now: "3600", id="in seconds"),
        pytest.param(lambda now: format_datetime(now + timedelta(hours=1), usegmt=True), id="as a time"),
    ],
)
async def test_a_wait_beyond_the_timeout_is_not_begun(tmp_path: Path, wish: Callable[[datetime], str]) -> None:
    async with receiving(answer(503, Retry_After=wish(datetime.now(UTC)))) as receiver:
        left = await run_hook(tmp_path, receiver.url)
    assert (left.code, len(receiver.received)) == (1, 1)
    assert "gave up after 1 attempt: 3" in left.said
    assert left.said.endswith("s to the next one are more than is left of the timeout")


async def test_the_wait_that_a_server_asks_for_is_kept(tmp_path: Path) -> None:
    async with receiving(answer(429, Retry_After="2"), answer(200)) as receiver:
        await run_hook(tmp_path, receiver.url)
    first, second = (int(one.headers["X-Reembed-Timestamp"]) for one in receiver.received)
    assert second - first >= 2


async def test_a_host_that_is_down_is_named(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{closed.getsockname()[1]}"
        left = await run_hook(tmp_path, f"http://{where}/in/p4th?token=t0ken", RETRIES="1")
    text = f"{where} can't be reached (Connection refused); gave up after 2 attempts: http.retries is 1"
    assert (left.code, left.said) == (1, text)


async def test_a_certificate_of_nobody_known_is_final(tmp_path: Path) -> None:
    certificate, key = Authority.create(tmp_path / "pki").issue("hook", "/CN=hook", ["IP:127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with receiving(answer(200), context=context) as receiver:
        left = await run_hook(tmp_path, receiver.url)
    fault = "unable to get local issuer certificate"
    text = f"the certificate of {host(receiver.url)} is not valid here ({fault}); nothing was sent"
    assert (left.code, left.said, receiver.received) == (1, text, [])


async def test_a_server_without_tls_is_told_apart(tmp_path: Path) -> None:
    async with receiving(answer(200)) as receiver:
        left = await run_hook(tmp_path, receiver.url.replace("http:", "https:"), RETRIES="0")
    assert left.code == 1
    assert left.said.startswith(f"{host(receiver.url)} can't be reached (no TLS connection; does it speak https?)")


async def test_neither_secret_nor_address_is_told_whatever_the_receiver_repeats(tmp_path: Path) -> None:
    repeated = f"no {SECRET} for /in/p4th?token=t0ken"
    async with receiving(answer(500, repeated), answer(400, repeated)) as receiver:
        left = await run_hook(tmp_path, receiver.url)
    assert left.said == f"{host(receiver.url)} answered 400: no [hidden] for [hidden]?[hidden]"
    assert not {SECRET, "t0ken", "p4th"} & set(re.findall(r"[\w-]+", left.output))


async def test_a_long_answer_is_read_no_further_than_needed(tmp_path: Path) -> None:
    async with receiving(answer(400, "x" * 10_000_000)) as receiver:
        left = await run_hook(tmp_path, receiver.url)
    assert left.said == f"{host(receiver.url)} answered 400: {'x' * 512}"


async def test_a_pod_that_is_told_to_end_leaves_it_to_the_next_one(tmp_path: Path) -> None:
    async with receiving(answer(-1)) as receiver:
        process = await start_hook(tmp_path, receiver.url)
        await receiver.called.wait()
        process.send_signal(signal.SIGTERM)
        left = await ended(process, tmp_path)
    assert (left.code, left.said) == (143, "the pod was told to end before the receiver answered")


async def test_a_hook_that_cannot_be_called_ends_with_another_code(tmp_path: Path) -> None:
    left = await run_hook(tmp_path, "hooks.example/t0ken")
    text = "http.url of hook 'announce' does not begin with https:// or http://; write it as https://HOST/PATH"
    assert (left.code, left.said, left.logged) == (2, text, [text])
