"""One request to an endpoint that speaks OpenAI's API: texts in, vectors out, or why not.

The key is read from its file for each request, so that a Secret's new value counts without a restart; it goes into one
header and nowhere else. Redirects are not followed: they would carry texts to where nobody sent them. What an endpoint
says of an error is shown without the key and without the texts, which some repeat.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import numpy.typing as npt
import orjson

from reembed.core.model import Hosted, Model

_SECONDS = 60.0
# A number of a vector has up to some 25 characters; what surrounds them, and errors, are small.
_NUMBER_BYTES = 32
_SMALL_BYTES = 1 << 20
_SHOWN = 200
# So much of a text is enough to know it by, where an endpoint repeats it.
_KNOWN_BY = 12
_TOO_LONG = re.compile(
    r"too (long|large|many tokens)|context (length|size|window)|less than \d+ tokens|maximum.{0,40}(tokens|length)"
    r"|exceed.{0,40}(context|length|token)|(tokens?|length)\b.{0,40}exceed",
    re.I,
)


class UpstreamError(Exception):
    """The endpoint gave no vectors; `status` is that of its answer, 0 if there was none or it was not the reason."""

    status = 0


class Limited(UpstreamError):
    """429: too much was asked; `wished` is in how many seconds to come again, None if it did not say."""

    def __init__(self, message: str, wished: float | None) -> None:
        super().__init__(message)
        self.wished = wished


class Denied(UpstreamError):
    """401, 403, 404 or a redirect: the key, the URL or the model's name is not what the endpoint knows."""


class Rejected(UpstreamError):
    """400, 413 or 422: something in the request is at fault, most likely a text."""

    @property
    def too_long(self) -> bool:
        return self.status == 413 or _TOO_LONG.search(str(self)) is not None


class Failed(UpstreamError):
    """It could not be reached, or failed; another try may succeed."""


class Unusable(UpstreamError):
    """It answered with what are no vectors of this model."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors (texts x dimensions, float32) and how many tokens the endpoint counted; None if it did not say."""

    values: npt.NDArray[np.float32]
    tokens: int | None


class Upstream:
    """An endpoint and the model that is asked of it. It must be made inside a running event loop."""

    def __init__(self, model: Model, hosted: Hosted, key: Path | None) -> None:
        self.model = model
        self.hosted = hosted
        self._key = key
        self._last_key = ""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=_SECONDS, connect=10),
            trust_env=True,
        )

    async def close(self) -> None:
        await self._session.close()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of texts; raises one of the errors above."""
        body: dict[str, Any] = {"model": self.hosted.name, "input": list(texts), "encoding_format": "float"}
        if self.hosted.send_dimensions:
            body["dimensions"] = self.model.dimensions
        key = self._read_key()
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        most = len(texts) * self.model.dimensions * _NUMBER_BYTES + _SMALL_BYTES
        try:
            async with self._session.post(
                f"{self.model.uri}/embeddings", data=orjson.dumps(body), headers=headers, allow_redirects=False
            ) as response:
                data = await _read(response, most if response.status == 200 else _SMALL_BYTES)
        except TimeoutError as error:
            raise Failed(f"{self.model.uri} did not answer within {_SECONDS:g} s") from error
        except (aiohttp.ClientError, OSError, UnicodeError) as error:  # the last one of a host that is no name
            raise Failed(f"{self.model.uri} can't be reached ({_why(error)})") from error
        if response.status != 200:
            raise self._refusal(response.status, response.headers, without(message(data), key, texts))
        if len(data) > most:
            raise Unusable(f"the endpoint's answer to {len(texts)} texts is larger than {most >> 20} MiB")
        return parse(data, len(texts), self.model.dimensions)

    def _read_key(self) -> str:
        """Return the key, empty if the pool has none; the last one while its file is away, as between two Secrets."""
        if self._key is None:
            return ""
        try:
            key = self._key.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            if self._last_key and isinstance(error, FileNotFoundError):
                return self._last_key
            raise Denied(
                f"the key of secretRef can't be read ({type(error).__name__}); look whether the Secret has it"
            ) from error
        if not key or not key.isascii() or not key.isprintable():
            raise Denied("the key of secretRef is empty or not one line of ASCII; correct the Secret")
        self._last_key = key
        return key

    def _refusal(self, status: int, headers: Mapping[str, str], words: str) -> UpstreamError:
        error = self._kind(status, headers, f"{self.model.uri} answered {status}: {words}")
        error.status = status
        return error

    def _kind(self, status: int, headers: Mapping[str, str], said: str) -> UpstreamError:
        if status == 429:
            return Limited(said, retry_after(headers, datetime.now(UTC)))
        if 300 <= status < 400:
            where = headers.get("Location", "").partition("?")[0][:_SHOWN]
            return Denied(
                f"{said} (a redirect to {where!r}, which is not followed); set external.url of a new pool to it"
            )
        if status in {401, 403, 404}:
            return Denied(f"{said}; look at external.url, model and secretRef")
        if status in {400, 413, 422}:
            return Rejected(said)
        if status == 503 and (wished := retry_after(headers, datetime.now(UTC))) is not None:
            return Limited(said, wished)
        # llama-server says 500 to a text that is longer than its batch.
        return Rejected(said) if status == 500 and _TOO_LONG.search(said) else Failed(said)


def parse(data: bytes, asked: int, dimensions: int) -> Vectors:
    """Return the vectors of an answer's body.

    Raises:
        Unusable: they are not as many, not as long or not finite.

    """
    try:
        answer = orjson.loads(data)
        found: list[npt.NDArray[np.float32] | None] = [None] * asked
        for place, item in enumerate(answer["data"]):
            index = item.get("index", place)
            if not 0 <= index < asked or found[index] is not None:
                raise ValueError(f"index {index} in an answer to {asked} texts")
            found[index] = _vector(item["embedding"])
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"[:_SHOWN]
        raise Unusable(f"the endpoint's answer can't be read ({why})") from error
    whole = [one for one in found if one is not None]
    if len(whole) != asked:
        raise Unusable(f"the endpoint gave {len(whole)} vectors for {asked} texts")
    lengths = {one.shape for one in whole}
    if lengths != {(dimensions,)}:
        shown = sorted(shape[0] if len(shape) == 1 else 0 for shape in lengths)
        raise Unusable(f"the endpoint's vectors have {shown[0]} dimensions, the pool says {dimensions}")
    values = np.stack(whole)
    if not np.isfinite(values).all() or not values.any(axis=1).all():
        raise Unusable("the endpoint gave a vector that is zero or not finite")
    return Vectors(values, _tokens(answer))


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return how many seconds a Retry-After asks for, given as seconds or as a date; None if it says nothing."""
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - now).total_seconds()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


def _vector(found: Any) -> npt.NDArray[np.float32]:
    if isinstance(found, str):
        return np.frombuffer(base64.b64decode(found, validate=True), "<f4")
    return np.asarray(found, dtype=np.float32)


def _tokens(answer: Mapping[str, Any]) -> int | None:
    usage = answer.get("usage")
    found = (usage.get("total_tokens") or usage.get("prompt_tokens")) if isinstance(usage, dict) else None
    return found if isinstance(found, int) and found >= 0 else None


def message(data: bytes) -> str:
    """Return what an endpoint said of an error, as OpenAI, Ollama, text-embeddings-inference and vLLM put it."""
    try:
        answer = orjson.loads(data)
        found = answer.get("error") or answer.get("message") or answer.get("detail")
        if isinstance(found, list):  # FastAPI's, each with the whole request beside it
            found = "; ".join(str(one.get("msg")) for one in found)
        text = str(found.get("message") if isinstance(found, dict) else found)
    except (ValueError, AttributeError):
        text = data.decode(errors="replace")
    return " ".join(text.split())


def without(said: str, key: str, texts: Sequence[str]) -> str:
    """Return the beginning of an endpoint's words without the key, and only up to where they repeat a text."""
    if key:
        said = said.replace(key, "***")
    starts = {" ".join(text.split())[:_KNOWN_BY] for text in texts}
    found = [said.find(start) for start in starts if len(start) == _KNOWN_BY]
    end = min((place for place in found if place >= 0), default=_SHOWN)
    return said[: min(end, _SHOWN)] + ("..." if end < _SHOWN else "")


def _why(error: Exception) -> str:
    """Return why there is no connection: a name that is not known, a certificate that is not trusted."""
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None)
    return f"{type(error).__name__}{f': {cause}' if cause else ''}"[:_SHOWN]


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Return an answer; of one that is longer than `most`, a little more than so much."""
    data = bytearray()
    async for block in response.content.iter_chunked(1 << 16):
        data += block
        if len(data) > most:
            response.close()
            break
    return bytes(data)
