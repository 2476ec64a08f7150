"""What the Job of an HTTP hook tells its pod, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


class InvalidSettings(ValueError):
    """The hook cannot be called as it is described; its spec has to be corrected."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One call: where to, of what, and how patiently."""

    name: str
    url: str
    body: bytes
    key: str  # idempotency key
    timeout: float  # in seconds, of all attempts with the pauses between them
    retries: int
    secret: bytes | None  # signs; None if nothing is signed
    termination_log: Path


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        InvalidSettings: one is missing or not what it should be. No message shows the address: it may be a credential.

    """
    needed = ("NAME", "URL", "PAYLOAD", "KEY", "TIMEOUT", "RETRIES")
    if missing := [f"REEMBED_HOOK_{one}" for one in needed if not environment.get(f"REEMBED_HOOK_{one}")]:
        raise InvalidSettings(f"{', '.join(missing)} not set: the operator sets each on the Jobs it makes")
    name = environment["REEMBED_HOOK_NAME"]
    secret = environment.get("REEMBED_HOOK_HMAC_SECRET")
    if secret == "":
        raise InvalidSettings(
            f"the Secret in http.hmacSecretRef of hook {name!r} is empty, and such a signature would prove nothing; "
            "put a key in it"
        )
    return Settings(
        name=name,
        url=_checked(environment["REEMBED_HOOK_URL"], name),
        body=environment["REEMBED_HOOK_PAYLOAD"].encode(),
        key=environment["REEMBED_HOOK_KEY"],
        timeout=_number(environment, "REEMBED_HOOK_TIMEOUT"),
        retries=int(_number(environment, "REEMBED_HOOK_RETRIES")),
        # A Secret holds bytes, and need not be text.
        secret=os.fsencode(secret) if secret is not None else None,
        termination_log=Path(environment.get("REEMBED_TERMINATION_LOG", "/dev/termination-log")),
    )


def _checked(url: str, name: str) -> str:
    where = f"http.url of hook {name!r}"
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username
        _ = parts.port
    except ValueError as error:
        raise InvalidSettings(f"{where} is no URL ({error}); write it as https://HOST/PATH") from None
    if parts.scheme not in {"http", "https"}:
        raise InvalidSettings(f"{where} does not begin with https:// or http://; write it as https://HOST/PATH")
    if not host or any(letter.isspace() for letter in url):
        raise InvalidSettings(f"{where} names no host, or holds a space; write it as https://HOST/PATH")
    if user is not None or parts.password is not None:
        raise InvalidSettings(f"{where} holds a user or password, which anybody could read in spec; use hmacSecretRef")
    return url


def _number(environment: Mapping[str, str], variable: str) -> float:
    try:
        value = float(environment[variable])
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InvalidSettings(f"{variable} is {environment[variable]!r}, not a number from 0 on")
    return value
