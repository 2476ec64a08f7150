"""One request to an endpoint that speaks OpenAI's API: texts in, vectors out, or why not.

The key is read from its file for each request, so that a Secret's new value counts without a restart; it goes into one
header and nowhere else. Redirects are not followed: they would carry texts to where nobody sent them.
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
_LONGEST_ANSWER = 64 << 20
_SHOWN = 200
_TOO_LONG = re.compile(
    r"too (long|large|many tokens)|context (length|size|window)|maximum.{0,40}(tokens|length)|exceed", re.I
)


class UpstreamError(Exception):
    """The endpoint gave no vectors."""


class Limited(UpstreamError):
    """429: too much was asked; `wished` is in how many seconds to come again, None if it did not say."""

    def __init__(self, message: str, wished: float | None) -> None:
        super().__init__(message)
        self.wished = wished


class Denied(UpstreamError):
    """401, 403 or 404: the key, the URL or the model's name is not what the endpoint knows."""


class Rejected(UpstreamError):
    """400, 413 or 422: something in the request is at fault, most likely a text."""

    @property
    def too_long(self) -> bool:
        return _TOO_LONG.search(str(self)) is not None


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
        headers = {"Content-Type": "application/json", **self._authorization()}
        try:
            async with self._session.post(
                f"{self.model.uri}/embeddings", data=orjson.dumps(body), headers=headers, allow_redirects=False
            ) as response:
                data = await _read(response)
                if response.status != 200:
                    raise self._refusal(response.status, response.headers, data)
        except TimeoutError as error:
            raise Failed(f"{self.model.uri} did not answer within {_SECONDS:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Failed(f"{self.model.uri} can't be reached ({type(error).__name__})") from error
        return parse(data, len(texts), self.model.dimensions)

    def _authorization(self) -> dict[str, str]:
        if self._key is None:
            return {}
        try:
            key = self._key.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Denied(f"the key of secretRef can't be read ({type(error).__name__}); look at the Secret") from error
        if not key or not key.isascii() or not key.isprintable():
            raise Denied("the key of secretRef is empty or not one line of ASCII; correct the Secret")
        return {"Authorization": f"Bearer {key}"}

    def _refusal(self, status: int, headers: Mapping[str, str], data: bytes) -> UpstreamError:
        said = f"{self.model.uri} answered {status}: {_message(data)}"
        key = self._authorization().get("Authorization", "").removeprefix("Bearer ")
        if key:  # some endpoints repeat the key that they refuse
            said = said.replace(key, "***")
        if status == 429:
            return Limited(said, retry_after(headers, datetime.now(UTC)))
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
        raise Unusable(f"the endpoint's answer can't be read ({type(error).__name__}: {error})") from error
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


def _message(data: bytes) -> str:
    """Return what an endpoint said of an error, as OpenAI, Ollama and text-embeddings-inference put it."""
    try:
        answer = orjson.loads(data)
        error = answer.get("error") or answer.get("message") or answer.get("detail")
        text = str(error.get("message") if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        text = data.decode(errors="replace")
    return " ".join(text.split())[:_SHOWN]


async def _read(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for block in response.content.iter_chunked(1 << 16):
        data += block
        if len(data) > _LONGEST_ANSWER:
            raise Unusable(f"the endpoint's answer is larger than {_LONGEST_ANSWER >> 20} MiB")
    return bytes(data)
