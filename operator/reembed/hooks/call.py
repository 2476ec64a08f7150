"""One hook's call: attempts until one is answered, the answer is final, or the time is up.

Every attempt carries the same body and idempotency key, so that a receiver which did its work and whose answer was lost
does nothing twice. Attempts share the time that is left equally: one that hangs leaves time for those after it. No
redirect is followed, since the body is signed for one address. What is said of the outcome goes into the migration's
status, where many may read it: never the address's path or query, which often are a credential, and never the secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import logging
import os
import random
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp

from reembed.hooks.settings import Settings
from reembed.hooks.signature import headers

_log = logging.getLogger("reembed.hooks")

_MOST_BODY = 4096
_BODY_SECONDS = 1.0
_LONGEST_LINE = 512
# These may pass: the request was too early or too often, or the server is in trouble.
_PASSING = frozenset({408, 425, 429})
# aiohttp's own are five minutes for a request and half a minute to connect; an attempt's share may be longer.
_NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=None)
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt came to."""

    done: bool
    text: str
    again: bool = False  # another attempt may do better
    retry_after: float = 0.0


async def call(settings: Settings) -> Answer:
    """Call until it is done or hopeless, for at most the hook's timeout."""
    loop = asyncio.get_running_loop()
    until = loop.time() + settings.timeout
    attempts = settings.retries + 1
    # A connection each: one that a dying server left open would only cost an attempt.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=_NO_LIMIT) as session:
        for number in range(1, attempts + 1):
            share = max(until - loop.time(), 0.0) / (attempts - number + 1)
            answer = await _attempt(session, settings, share)
            _log.info("attempt %d of %d: %s", number, attempts, answer.text)
            if answer.done or not answer.again:
                return answer
            if number == attempts:
                break
            pause = max(_pause(number), answer.retry_after)
            if pause >= until - loop.time():
                return _gave_up(answer, number, f"{pause:.1f} s to the next one are more than is left of the timeout")
            await asyncio.sleep(pause)
    return _gave_up(answer, attempts, f"http.retries is {settings.retries}")


def _gave_up(answer: Answer, attempts: int, why: str) -> Answer:
    tried = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    return Answer(done=False, text=f"{answer.text}; gave up after {tried}: {why}")


def _pause(number: int) -> float:
    # Hooks of many migrations may have failed at the same moment.
    return min(_FIRST_PAUSE * 2.0 ** (number - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


async def _attempt(session: aiohttp.ClientSession, settings: Settings, seconds: float) -> Answer:
    host = urlsplit(settings.url).netloc
    try:
        async with asyncio.timeout(seconds) as limit:
            return await _post(session, settings, limit)
    except TimeoutError:
        text = f"{host} did not answer within {seconds:.3g} s, an attempt's share of the timeout of "
        return Answer(done=False, text=f"{text}{settings.timeout:g} s", again=True)
    except aiohttp.ClientConnectorCertificateError as error:
        text = f"the certificate of {host} is not valid here ({_certificate_fault(error)}); nothing was sent"
        return Answer(done=False, text=text)
    except ValueError:  # of aiohttp for the URL, of Python for a host name
        return Answer(done=False, text="http.url can't be called, its host is none; write it as https://HOST/PATH")
    except (aiohttp.ClientError, OSError) as error:
        return Answer(done=False, text=f"{host} can't be reached ({_why(error)})", again=True)


async def _post(session: aiohttp.ClientSession, settings: Settings, limit: asyncio.Timeout) -> Answer:
    told = {
        **headers(settings.body, settings.key, settings.secret, int(time.time())),
        "Accept-Encoding": "identity",
        "User-Agent": "reembed-hook",
    }
    async with session.post(settings.url, data=settings.body, headers=told, allow_redirects=False) as response:
        limit.reschedule(None)
        said = await _first_line(response, settings)
        return _judged(response.status, response.headers, said, urlsplit(settings.url).netloc)


def _judged(status: int, told: Mapping[str, str], said: str, host: str) -> Answer:
    text = f"{host} answered {status}" + (f": {said}" if said else "")
    if 200 <= status < 300:
        return Answer(done=True, text=text)
    if status in _PASSING or status >= 500:
        return Answer(done=False, text=text, again=True, retry_after=_retry_after(told.get("Retry-After", "")))
    if 300 <= status < 400:
        return Answer(done=False, text=f"{text}; redirects are not followed: write the final address into http.url")
    return Answer(done=False, text=text)


async def _first_line(response: aiohttp.ClientResponse, settings: Settings) -> str:
    """Return the first line of the answer's beginning, without what must not be told."""
    data = b""
    # What counts is the status, and that has come.
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(_BODY_SECONDS):
            while len(data) < _MOST_BODY and (block := await response.content.read(_MOST_BODY - len(data))):
                data += block
    text = data.decode(errors="replace")
    for hidden in _hidden(settings):
        text = text.replace(hidden, "[hidden]")
    lines = ("".join(letter for letter in line if letter.isprintable()).strip() for line in text.splitlines())
    return next((line for line in lines if line), "")[:_LONGEST_LINE]


def _hidden(settings: Settings) -> list[str]:
    """Return what a receiver may repeat and nobody else may read, the longest first."""
    url = urlsplit(settings.url)
    found = {url.query, url.path if len(url.path) > 1 else "", (settings.secret or b"").decode(errors="replace")}
    return sorted((one for one in found if one), key=len, reverse=True)


def _retry_after(value: str) -> float:
    """Return the seconds that a server asks to wait, 0 if it does not say so in either of the two ways."""
    if value.strip().isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return max((aware - datetime.now(UTC)).total_seconds(), 0.0)


def _certificate_fault(error: aiohttp.ClientConnectorCertificateError) -> str:
    inner = error.certificate_error
    return inner.verify_message if isinstance(inner, ssl.SSLCertVerificationError) else type(inner).__name__


def _why(error: Exception) -> str:
    """Return what happened without the error's own text, which may name the whole address."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name is not known here"
    if isinstance(error, aiohttp.ClientSSLError):
        return "no TLS connection; does it speak https?"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection without an answer"
    return type(error).__name__
