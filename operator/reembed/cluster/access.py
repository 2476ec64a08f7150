"""Where the API server is and who asks: the account of a pod, or a person's kubeconfig.

A pod's account is three files and two variables. A kubeconfig may have several files, plugins that make tokens, and
tokens that are renewed: that is for the client library of Kubernetes, which is loaded only then, since it takes half a
second and 20 MiB.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
# The kubelet writes a new token long before the old one ends.
_TOKEN_SECONDS = 60.0


class NoAccess(Exception):
    """Nothing says where the API server is, or what says so cannot be used."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a request needs besides its path. `authorization` returns the header's value now, None for none."""

    server: str
    tls: ssl.SSLContext
    authorization: Callable[[], Awaitable[str | None]]
    proxy: str | None = None


def in_pod(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process runs in a pod that has an API server to ask."""
    return bool(environment.get(_HOST))


def of_account(
    account: Path = ACCOUNT,
    environment: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = monotonic,
) -> Access:
    """Return how a pod asks, by the account that is mounted into it; `clock` gives seconds.

    Raises:
        NoAccess: no account is mounted, or the variables that every pod has are missing.

    """
    host, port = environment.get(_HOST), environment.get(_PORT)
    if not host or not port:
        raise NoAccess(f"{_HOST} and {_PORT} are not set; outside of a pod, name a kubeconfig by KUBECONFIG")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    try:
        tls = ssl.create_default_context(cafile=str(account / "ca.crt"))
        token = _Token(account / "token", clock)
    except OSError as error:
        raise NoAccess(f"the pod has no service account to log in with ({error}); is its token mounted?") from error
    # Python 3.13 wants of an authority what those of many clusters lack.
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return Access(server, tls, token.header, _proxy(server))


class _Token:
    """The account's token, read again when it may have been replaced."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._read()

    async def header(self) -> str:
        if self._clock() - self._at > _TOKEN_SECONDS:
            self._read()
        return f"Bearer {self._token}"

    def _read(self) -> None:
        self._token, self._at = self._path.read_text().strip(), self._clock()


async def of_kubeconfig(path: str | None = None, context: str | None = None) -> tuple[Access, str | None]:
    """Return how a kubeconfig says to ask, and its own namespace; several files are joined by the path separator.

    `path` is by default what KUBECONFIG says, and `context` the current one.

    Raises:
        NoAccess: the library that reads them is not installed.
        Exception: a broken file fails in as many ways as it can be broken.

    """
    try:
        from kubernetes.aio import config  # noqa: PLC0415
        from kubernetes.aio.client import ApiClient, Configuration  # noqa: PLC0415
    except ImportError as error:
        raise NoAccess("a kubeconfig needs the package kubernetes; install reembed[cli]") from error
    settings = Configuration()
    # The library reads KUBECONFIG when it is imported, which is too early for whoever sets it later.
    files = path or os.environ.get("KUBECONFIG")
    loaded = await config.load_kube_config(
        config_file=files, context=context, client_configuration=settings, persist_config=False
    )

    async def authorization() -> str | None:
        found: str | None = await settings.get_api_key_with_prefix("BearerToken", alias="authorization")
        return found

    tls: ssl.SSLContext = ApiClient(settings).rest_client.ssl_context
    own: str | None = (loaded.current_context.get("context") or {}).get("namespace")
    return Access(settings.host, tls, authorization, settings.proxy or _proxy(settings.host)), own


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for an API server."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
