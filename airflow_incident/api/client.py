"""The two drivers of an exchange, for threads and for an event loop, and the way to the API: TLS and proxies.

The only file that imports httpx.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import sys
import threading
import time
import zlib
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import httpx

from airflow_incident.api.calls import ALERT_SOURCE, Directory, addressed
from airflow_incident.api.exchange import RequestLimits, Response, execute, too_late
from airflow_incident.constants import VERSION
from airflow_incident.errors import (
    ConfigurationError,
    IncidentIoError,
    Problem,
    TransportError,
    UnexpectedResponseError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_incident.api.calls import Call, CallSequence, PaginatedCall
    from airflow_incident.api.exchange import Received, Request

T = TypeVar("T")

_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
"""Errors that come before the first byte of a request leaves."""
_UNREADABLE_PROXY = (ValueError, ImportError, httpx.InvalidURL)
"""What httpx raises for a proxy that it cannot use; ImportError where one speaks SOCKS."""
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""What httpx reads, also in lower case: https://www.python-httpx.org/environment_variables/"""


class Connector:
    """How to reach one API with one key; builds a TLS trust store, which takes 15 to 20 ms.

    :param base_url: Where the API is, without a slash at its end.
    :param alert_source_id: The alert source that takes alert events, with `alert_source_token`.
    :param proxy: URL of the proxy on the way. Default: the environment's.
    :param ca_bundle: Path of a PEM file. Default: what SSL_CERT_FILE or SSL_CERT_DIR names, else certifi's.
    :raises ConfigurationError: if the CA bundle or the proxy cannot be used.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        alert_source_id: str | None = None,
        alert_source_token: str = "",
        proxy: str | None = None,
        ca_bundle: str | None = None,
    ) -> None:
        self.base_url = base_url
        self.secrets = [secret.encode() for secret in (api_key, alert_source_token) if secret]
        self.directory = Directory(time.monotonic)
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": f"airflow-incident/{VERSION}",
        }
        self._alert_source = alert_source_id
        self._alert_headers = {"Authorization": f"Bearer {alert_source_token}"} if alert_source_token else {}
        # Plain http only ever leads to this machine: no proxy of the environment may see the key on the way.
        # None instead of an SSL context, for OpenSSL takes a millisecond to begin.
        self.options: dict[str, Any] = {"verify": None, "trust_env": False, "follow_redirects": False}
        self.ignored_proxies: str | None = None
        """Why the environment's proxies are left aside."""
        if base_url.startswith("https:"):
            self.options |= {"verify": _trust_store(ca_bundle), "trust_env": True, "proxy": proxy}

    def open(self) -> httpx.Client:
        """Begin to speak with the API; proxies of the environment that httpx cannot read are left aside.

        :raises ConfigurationError: if the connection's own proxy cannot be used.
        """
        try:
            return httpx.Client(**self.options)
        except _UNREADABLE_PROXY as error:
            if self.options.get("proxy"):
                raise ConfigurationError([Problem("Proxy", f"cannot be used ({error})")]) from None
            self.ignored_proxies = str(error)
        # httpx reads all of them at once: one that is not for this host must not keep the others from being used.
        self.options |= {"trust_env": False, "proxy": _proxy_for(self.base_url)}
        try:
            return httpx.Client(**self.options)
        except _UNREADABLE_PROXY:
            self.options["proxy"] = None
            return httpx.Client(**self.options)

    def arguments(self, request: Request) -> dict[str, Any]:
        """Put a request into httpx's words.

        :raises ConfigurationError: if it is for an alert source, and none is set.
        """
        headers = self._headers if request.content is None else self._headers | {"Content-Type": "application/json"}
        path = request.path
        if ALERT_SOURCE in path:
            if not self._alert_source or not self._alert_headers:
                raise ConfigurationError([Problem("Alert source ID", "or its token is missing in the connection")])
            path = addressed(path, self._alert_source)
            headers = headers | self._alert_headers
        return {
            "method": request.method,
            "url": self.base_url + path,
            "params": request.query or None,
            "content": request.content,
            "headers": headers,
            "timeout": request.timeout,
        }


def _trust_store(ca_bundle: str | None) -> ssl.SSLContext:
    """Load the authorities that TLS trusts, from where httpx would.

    https://www.python-httpx.org/environment_variables/

    :raises ConfigurationError: if they cannot be read.
    """
    file = ca_bundle or os.environ.get("SSL_CERT_FILE")
    folder = None if file else os.environ.get("SSL_CERT_DIR")
    if not file and not folder:
        import certifi

        file = certifi.where()
    try:
        # As ssl.create_default_context does, but never with SSLKEYLOGFILE, which would write the session's keys down.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if sys.version_info >= (3, 13):
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
        context.load_verify_locations(file, folder)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        what = repr(ca_bundle) if ca_bundle else f"SSL_CERT_FILE of the environment, {file or folder!r},"
        raise ConfigurationError([Problem("CA bundle", f"{what} cannot be read ({error})")]) from None
    return context


def _proxy_for(base_url: str) -> str | None:
    """Return the environment's proxy on the way to an https address, as the standard library reads it."""
    proxies = getproxies_environment()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or proxy_bypass(urlsplit(base_url).netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def unreadable_proxy_variables() -> list[str]:
    """Name the environment's proxy variables that httpx cannot read, each tried by itself.

    It changes the environment meanwhile, so it is for a command, never for a process of Airflow.
    """
    names = [name for upper in _PROXY_VARIABLES for name in (upper, upper.lower())]
    given = {name: os.environ.pop(name) for name in names if name in os.environ}
    unreadable = []
    try:
        for name, value in given.items():
            os.environ[name] = value
            try:
                httpx.Client(verify=None).close()  # type: ignore[arg-type]  # as above: nothing is asked with it
            except _UNREADABLE_PROXY:
                unreadable.append(name)
            del os.environ[name]
    finally:
        os.environ.update(given)
    return unreadable


class Client:
    """Makes calls from ordinary code; each ends within its budget, whatever the network does."""

    def __init__(self, connector: Connector) -> None:
        self.connector = connector
        self._http = connector.open()

    @overload
    def call(self, call: Call[T] | CallSequence[T], *, budget: float) -> T: ...
    @overload
    def call(self, call: PaginatedCall[T], *, budget: float) -> list[T]: ...
    def call(self, call: Any, *, budget: float) -> Any:
        """Make a call, with all its retries and pages.

        :param budget: Seconds for all of it.
        :raises IncidentIoError: if it could not be made.
        """
        errors_seen: list[IncidentIoError] = []
        try:
            return _within(budget, partial(self.call_here, call, budget=budget, errors_seen=errors_seen))
        except TimeoutError:
            raise too_late(budget, errors_seen) from None

    def call_here(self, call: Any, *, budget: float, errors_seen: list[IncidentIoError]) -> Any:
        """Make a call on this very thread; a hanging name look-up or a dripping head may outlive the budget.

        :param budget: Seconds for all attempts together.
        :param errors_seen: Collects the errors on the way, for whoever does not wait for the end.
        :raises IncidentIoError: if it could not be made.
        """
        conversation = execute(call, _limits(budget, errors_seen, self.connector.directory))
        answer: Received = None
        try:
            while True:
                request = conversation.send(answer)
                time.sleep(request.delay)
                try:
                    answer = _within(request.cut, partial(self._send, request))
                except TimeoutError:
                    answer = None
        except StopIteration as end:
            return end.value

    def close(self) -> None:
        """Close pooled connections."""
        self._http.close()

    def _send(self, request: Request) -> Received:
        try:
            with self._http.stream(**self.connector.arguments(request)) as response:
                body = _Body(response, request, self.connector.secrets)
                for chunk in response.iter_raw():
                    if body.is_full_with(chunk):
                        break
                return body.response()
        except Exception as error:  # noqa: BLE001 -- whatever breaks under a request, it is the request that failed
            return _as_ours(error)


class AsyncClient:
    """Makes calls from a coroutine; each ends within its budget."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    @overload
    async def call(self, call: Call[T] | CallSequence[T], *, budget: float) -> T: ...
    @overload
    async def call(self, call: PaginatedCall[T], *, budget: float) -> list[T]: ...
    async def call(self, call: Any, *, budget: float) -> Any:
        """Make a call, with all its retries and pages.

        :param budget: Seconds for all of it.
        :raises IncidentIoError: if it could not be made.
        """
        errors_seen: list[IncidentIoError] = []
        conversation = execute(call, _limits(budget, errors_seen, self._connector.directory))
        answer: Received = None
        try:
            async with asyncio.timeout(budget), httpx.AsyncClient(**self._connector.options) as http:
                while True:
                    request = conversation.send(answer)
                    await asyncio.sleep(request.delay)
                    try:
                        async with asyncio.timeout(request.cut):
                            answer = await self._send(request, http)
                    except TimeoutError:
                        answer = None
        except StopIteration as end:
            return end.value
        except TimeoutError:
            raise too_late(budget, errors_seen) from None

    async def _send(self, request: Request, http: httpx.AsyncClient) -> Received:
        try:
            async with http.stream(**self._connector.arguments(request)) as response:
                body = _Body(response, request, self._connector.secrets)
                async for chunk in response.aiter_raw():
                    if body.is_full_with(chunk):
                        break
                return body.response()
        except Exception as error:  # noqa: BLE001 -- whatever breaks under a request, it is the request that failed
            return _as_ours(error)


class _Body:
    """An answer as it comes in: bounded in size also when it is compressed, and in time also when it drips."""

    def __init__(self, response: httpx.Response, request: Request, secrets: Sequence[bytes]) -> None:
        self._answer = response
        self._secrets = secrets
        self._limit = request.limit
        self._deadline = time.monotonic() + request.timeout
        self._content = bytearray()
        packed = response.headers.get("content-encoding", "").lower() in {"gzip", "deflate"}
        self._unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress if packed else None

    def is_full_with(self, chunk: bytes) -> bool:
        """Take a chunk; return whether no more is wanted.

        :raises UnexpectedResponseError: if a success is larger than the limit or cannot be unpacked.
        :raises TransportError: if the answer takes longer than its request may.
        """
        room = self._limit + 1 - len(self._content)
        try:
            self._content += self._unpack(chunk, room) if self._unpack else chunk[:room]
        except zlib.error:
            raise UnexpectedResponseError(self._answer.status_code, "the answer cannot be unpacked") from None
        if len(self._content) > self._limit:
            # The page behind a proxy's 502 may be of any size; its status is what matters.
            if self._answer.is_success:
                what = f"the answer is larger than {self._limit // 1024} KiB"
                raise UnexpectedResponseError(self._answer.status_code, what)
            return True
        if time.monotonic() > self._deadline:
            raise TransportError("the answer came too slowly", maybe_delivered=True)
        return False

    def response(self) -> Response:
        """Return what has come."""
        headers = {name.lower(): value for name, value in self._answer.headers.items()}
        content = bytes(self._content)
        for secret in () if self._answer.is_success else self._secrets:
            # What a refusal says is shown in errors and logs, and some servers quote the key that they refuse.
            content = content.replace(secret, b"***")
            headers = {name: value.replace(secret.decode(), "***") for name, value in headers.items()}
        return Response(self._answer.status_code, headers, content)


def _limits(budget: float, errors_seen: list[IncidentIoError], directory: Directory) -> RequestLimits:
    deadline = time.monotonic() + budget
    return RequestLimits(deadline, time.monotonic, partial(datetime.now, UTC), random.random, errors_seen, directory)


def _within(seconds: float | None, work: Callable[[], T]) -> T:
    """Do work; if it has only so many seconds, on a daemon thread that is left behind when they are over.

    Nothing else ends a hanging name look-up, a head that comes byte by byte or a stalled TLS handshake.

    :raises TimeoutError: if they are.
    """
    if seconds is None:
        return work()
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 -- carried to the caller, who raises it
            future.set_exception(error)

    try:
        threading.Thread(target=run, daemon=True, name="incident.io").start()
    except RuntimeError:  # no thread to be had: late is better than never
        return work()
    return future.result(timeout=seconds)


def _as_ours(error: Exception) -> IncidentIoError:
    if isinstance(error, IncidentIoError):
        return error
    said = str(error) or "no details"
    return TransportError(f"{type(error).__name__}: {said}", maybe_delivered=not isinstance(error, _NOT_SENT))
