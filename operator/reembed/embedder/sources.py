"""Where a model's file is asked for: http(s)://, hf:// and s3:// as one kind of HTTP request.

    hf://OWNER/REPO/PATH[@REVISION]   the hub's address of a file; HF_ENDPOINT names a mirror, HF_TOKEN who asks
    s3://BUCKET/KEY                   a signed address, or a plain one where there are no keys; AWS_* as everywhere

An address is made anew for each try, since a signed one expires. What proves who asks is in `Access` and in the
request alone: never in a text that is shown, and never sent to another host that a server redirects to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from yarl import URL

from reembed.embedder.refusals import Unavailable

if TYPE_CHECKING:
    from obstore.store import S3Config

# Variables that prove who asks.
CREDENTIALS = ("HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_HUB = "https://huggingface.co"
_REVISION = "main"
_REGION = "us-east-1"
_SIGNED_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Access:
    """Whom to ask, and as whom."""

    hub: str = _HUB
    hub_token: str = field(default="", repr=False)
    s3_endpoint: str = ""
    region: str = _REGION
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """One GET. A redirect is followed unless the signature would not hold at another place."""

    url: URL = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    redirects: bool = True


def access_from(environment: Mapping[str, str]) -> Access:
    """Return what the variables say that the hub's and S3's own tools read."""

    def said(name: str) -> str:
        # A Secret that was made from a file ends with its line's end, which no header may hold.
        return environment.get(name, "").strip()

    return Access(
        hub=(said("HF_ENDPOINT") or _HUB).rstrip("/"),
        hub_token=said("HF_TOKEN"),
        s3_endpoint=said("AWS_ENDPOINT_URL").rstrip("/"),
        region=said("AWS_REGION") or _REGION,
        access_key=said("AWS_ACCESS_KEY_ID"),
        secret_key=said("AWS_SECRET_ACCESS_KEY"),
        session_token=said("AWS_SESSION_TOKEN"),
    )


def request(uri: str, access: Access) -> Request:
    """Return what is asked for a file.

    Raises:
        Unavailable: the URI does not name a file in its scheme's form.

    """
    scheme, _, rest = uri.partition("://")
    match scheme:
        case "hf":
            return _of_hub(rest, access)
        case "s3":
            return _of_s3(rest, access)
        case "http" | "https":
            try:
                return Request(URL(uri))
            except ValueError as error:
                raise Unavailable(f"{shown(uri)} is no address; correct spec.model.uri in a new pool") from error
    raise Unavailable(f"spec.model.uri has the scheme {scheme!r}; http, https, hf, s3 and file are known")


def shown(uri: str) -> str:
    """Return a URI without user, password and query, where credentials may be; hf and s3 have none."""
    if not uri.startswith(("http://", "https://")):
        return uri
    # By hand, since what is no address must be shown as well.
    scheme, _, rest = re.split("[?#]", uri, maxsplit=1)[0].partition("://")
    host, slash, path = rest.partition("/")
    host = host.rpartition("@")[2]
    if "@" in uri and not re.fullmatch(r"[^:]*(:\d*)?|\[.*\](:\d*)?", host):
        # A password with one of /?# in it: what looks like host and path is a part of it.
        return f"{scheme}://..."
    return f"{scheme}://{host}{slash}{path}"


def _of_hub(rest: str, access: Access) -> Request:
    place, _, revision = rest.partition("@")
    owner, _, inner = place.partition("/")
    repository, _, path = inner.partition("/")
    if not (owner and repository and path):
        raise Unavailable(f"hf://{rest} names no file; spec.model.uri is hf://OWNER/REPO/PATH or ...@REVISION")
    url = f"{access.hub}/{owner}/{repository}/resolve/{quote(revision or _REVISION, safe='')}/{quote(path)}"
    return Request(URL(url, encoded=True), {"Authorization": f"Bearer {access.hub_token}"} if access.hub_token else {})


def _of_s3(rest: str, access: Access) -> Request:
    bucket, _, key = rest.partition("/")
    if not (bucket and key):
        raise Unavailable(f"s3://{rest} names no file; spec.model.uri is s3://BUCKET/KEY")
    if not (access.access_key and access.secret_key):
        base = access.s3_endpoint or f"https://s3.{access.region}.amazonaws.com"
        return Request(URL(f"{base}/{bucket}/{quote(key)}", encoded=True), redirects=False)
    return Request(URL(_signed(bucket, key, access), encoded=True), redirects=False)


def _signed(bucket: str, key: str, access: Access) -> str:
    # Only who reads from S3 pays for the library.
    from obstore import sign  # noqa: PLC0415
    from obstore.exceptions import BaseError  # noqa: PLC0415
    from obstore.store import S3Store  # noqa: PLC0415

    settings: S3Config = {
        "region": access.region,
        "access_key_id": access.access_key,
        "secret_access_key": access.secret_key,
    }
    if access.s3_endpoint:
        settings["endpoint"] = access.s3_endpoint
    if access.session_token:
        settings["session_token"] = access.session_token
    try:
        store = S3Store(bucket, config=settings, client_options={"allow_http": True})
        return str(sign(store, "GET", key, _SIGNED_FOR))
    except BaseError as error:
        raise Unavailable(
            f"s3://{bucket}/{key} cannot be signed ({type(error).__name__}); look at spec.download and its Secret"
        ) from None  # the library's text may hold what it was given
