"""An embedder over HTTP: texts in, vectors out, and never a vector of another model.

Used by the gateways (a query), by the backfill and by the follower (pages of documents). One client stands for one
model: it is made with the fingerprint that its caller expects and checks it on every answer, so that a Service whose
pods were replaced behind it cannot mix two vector spaces. Vectors stay little-endian float32 bytes, as they came:
whoever needs numbers decodes them.

A client holds one connection pool. It retries nothing but a connection that died before any answer (a pod that went
away); everything else is the caller's decision, who alone knows its deadline.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from reembed.client.errors import (
    EmbedderBusy,
    EmbedderUnavailable,
    FingerprintMismatch,
    TextInvalid,
    TextTooLong,
)
from reembed.core.fingerprint import model_of
from reembed.core.model import InputType

# What an embedder accepts in one request.
BATCH_LIMIT = 256

# A Service balances connections, not requests: connections that live for ever leave pods that came later idle. One
# request in so many closes its connection, so that busy connections move most often.
_RENEW_EVERY = 64
# Within a cluster a connection takes milliseconds, and a second more where a packet was lost. A node that died swallows
# all of them, and the next try may reach another.
_CONNECT_SECONDS = 2.0
_DEFAULT_RETRY_AFTER = 1.0
_BACKGROUND = {"X-Reembed-Priority": "background"}


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of one request, in the order of its texts."""

    vectors: tuple[bytes, ...]  # little-endian float32, all of one length
    fingerprint: str
    truncated: tuple[int, ...] = ()  # indexes of the texts whose end was cut off
    tokens: int = 0

    @property
    def dimensions(self) -> int:
        return len(self.vectors[0]) // 4 if self.vectors else 0


class EmbedderClient:
    """One embedder, or a Service over several that run the same model. It must be made inside a running event loop."""

    def __init__(self, url: str, *, fingerprint: str, timeout: float) -> None:
        self._url = url.rstrip("/")
        self._fingerprint = model_of(fingerprint)  # of a collection that is cut, the pods know the model alone
        self._timeout = timeout
        self._requests = 0
        self._session = _session(kept_alive=True)
        self._again = _session(kept_alive=False)

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    async def embed(self, texts: Sequence[str], input_type: InputType, *, background: bool = False) -> Embedded:
        """Embed up to BATCH_LIMIT texts; `background` ones are shed first when the embedder is busy.

        Raises:
            TextTooLong, TextInvalid: one of the texts is at fault.
            EmbedderBusy, EmbedderUnavailable: another attempt may succeed.
            FingerprintMismatch: the answer came from another model.

        """
        if not texts:
            return Embedded((), self._fingerprint)
        if len(texts) > BATCH_LIMIT:
            raise ValueError(f"{len(texts)} texts in one request, above the limit of {BATCH_LIMIT}; send them in parts")
        body = {"input": list(texts), "input_type": input_type.value.lower(), "encoding_format": "base64"}
        status, headers, data = await self._post(body, _BACKGROUND if background else {})
        answer = _decode(self._url, status, data)
        if status != 200:
            raise _refusal(self._url, status, headers, answer, len(texts))
        return self._accept(answer, len(texts))

    async def boundaries(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        """Return where the model's tokens end in each text, counted in characters, at background priority.

        Raises:
            TextInvalid, EmbedderBusy, EmbedderUnavailable: as `embed` does.

        """
        body = {"input": list(texts), "ends": True}
        status, headers, data = await self._post(body, _BACKGROUND, "/tokenize")
        answer = _decode(self._url, status, data)
        if status != 200:
            raise _refusal(self._url, status, headers, answer, len(texts))
        ends = answer.get("ends")
        if not isinstance(ends, list) or len(ends) != len(texts) or not all(map(_whole_numbers, ends)):
            raise _unusable(self._url, f"no ends of the tokens of {len(texts)} texts")
        return ends

    async def close(self) -> None:
        await self._session.close()
        await self._again.close()

    async def _post(
        self, body: Mapping[str, Any], headers: Mapping[str, str], path: str = "/v1/embeddings"
    ) -> tuple[int, Mapping[str, str], bytes]:
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    return await self._post_once(self._session, body, headers, path)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ConnectionTimeoutError):
                    # Embedding changes nothing, so it may be asked twice. A pod that ends closes connections which we
                    # were about to reuse; without this, each roll-out of a pool would cost some queries. It had more
                    # than one of them, so the second attempt has a connection of its own.
                    return await self._post_once(self._again, body, headers, path)
        except aiohttp.ConnectionTimeoutError as error:
            raise EmbedderUnavailable(
                f"the embedder at {self._url} took no connection within {_CONNECT_SECONDS:g} s, twice: look whether "
                "the nodes of its pods are there"
            ) from error
        except TimeoutError as error:
            raise EmbedderUnavailable(
                f"the embedder at {self._url} did not answer within {self._timeout:g} s"
            ) from error
        except aiohttp.ClientError as error:
            raise EmbedderUnavailable(
                f"the embedder at {self._url} can't be reached ({type(error).__name__}): look whether its pods run"
            ) from error

    async def _post_once(
        self, session: aiohttp.ClientSession, body: Mapping[str, Any], headers: Mapping[str, str], path: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        self._requests += 1
        if self._requests % _RENEW_EVERY == 0:
            headers = {**headers, "Connection": "close"}
        async with session.post(f"{self._url}{path}", json=body, headers=headers) as response:
            return response.status, response.headers, await response.read()

    def _accept(self, answer: Mapping[str, Any], asked: int) -> Embedded:
        found = str(answer.get("fingerprint", ""))
        if found != self._fingerprint:
            raise FingerprintMismatch(self._url, self._fingerprint, found)
        try:
            vectors = [b""] * asked
            for item in answer["data"]:
                vectors[item["index"]] = base64.b64decode(item["embedding"], validate=True)
            truncated = tuple(int(index) for index in answer.get("truncated", ()))
            tokens = int(answer.get("usage", {}).get("total_tokens", 0))
        except (KeyError, IndexError, TypeError, AttributeError, binascii.Error, ValueError) as error:
            raise _unusable(self._url, f"{type(error).__name__} in its data") from error
        lengths = {len(vector) for vector in vectors}
        if len(lengths) != 1 or not (length := lengths.pop()) or length % 4:
            raise _unusable(self._url, f"not {asked} vectors of one dimension")
        return Embedded(tuple(vectors), found, truncated, tokens)


def _session(*, kept_alive: bool) -> aiohttp.ClientSession:
    # No limit of connections: how much is asked at once is bounded by the callers, by counts of their own.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=not kept_alive),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
    )


def _whole_numbers(values: object) -> bool:
    return isinstance(values, list) and set(map(type, values)) <= {int}


def _decode(url: str, status: int, data: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        return answer
    if status == 200:
        raise _unusable(url, "no JSON object")
    # A proxy's page, or a crash before the first byte of the body: the status code still says what happened.
    return {}


def _unusable(url: str, what: str) -> EmbedderUnavailable:
    return EmbedderUnavailable(
        f"the embedder at {url} answered with what can't be used ({what}); nothing was taken from it"
    )


def _refusal(
    url: str, status: int, headers: Mapping[str, str], answer: Mapping[str, Any], asked: int
) -> TextTooLong | TextInvalid | EmbedderBusy | EmbedderUnavailable:
    error = answer.get("error")
    details: Mapping[str, Any] = error if isinstance(error, dict) else {}
    message = str(details.get("message") or f"the embedder at {url} answered {status}")
    index = details.get("index", answer.get("index"))
    if not isinstance(index, int):
        index = 0 if asked == 1 else None
    if status == 413:
        return TextTooLong(index, message)
    if status in {400, 422}:
        return TextInvalid(index, message)
    if status == 429:
        return EmbedderBusy(_retry_after(headers), message)
    return EmbedderUnavailable(f"the embedder at {url} answered {status}: {message}")


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return max(0.0, float(headers.get("Retry-After", _DEFAULT_RETRY_AFTER)))
    except ValueError:
        return _DEFAULT_RETRY_AFTER
