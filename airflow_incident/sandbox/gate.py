"""What every request passes before its endpoint: the host, the size, the key, the rate, the recording."""

import contextlib
import hmac
import ipaddress
import json
import logging
import math
import threading
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from fastapi import Request
from starlette.middleware.base import RequestResponseEndpoint
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from .errors import ApiError, not_found, problem
from .incidents import rfc3339
from .store import Recorded, Store

LOG = logging.getLogger(__name__)
API = ("/v1/", "/v2/")
ALERTS = "/v2/alert_events/http/"
FIRST_INCIDENTS = "/v1/incidents"


class AsciiResponse(Response):
    """A JSON answer in ASCII, so that even half of a surrogate pair arrives as it was sent."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode the answer."""
        return json.dumps(content, allow_nan=False).encode()


def error_response(error: ApiError) -> AsciiResponse:
    """Return an error as its response."""
    return AsciiResponse(error.body, error.status, error.headers)


def _check_host(host: str) -> None:
    """Refuse a Host header that does not name this machine: it may be a rebound DNS name."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    with contextlib.suppress(ValueError):
        if name.lower() == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback:
            return
    message = "The sandbox answers only on this machine: use http://127.0.0.1 or http://localhost"
    raise ApiError(421, problem("misdirected_request", message))


class TokenBucket:
    """A rate limit of so many requests a minute."""

    def __init__(self, name: str, limit: int, clock: Callable[[], float]) -> None:
        self._name = name
        self._limit = limit
        self._clock = clock
        self._tokens = float(limit)
        self._filled_at = clock()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Take one token, or refuse with the time at which there is one."""
        limit = self._limit
        with self._lock:
            now = self._clock()
            self._tokens = min(limit, self._tokens + max(0.0, now - self._filled_at) * limit / 60)
            self._filled_at = now
            if self._tokens >= 1:
                self._tokens -= 1
                return
            wait = math.ceil((1 - self._tokens) * 60 / limit)
        message = f"More than {limit} requests a minute with this {self._name}"
        raise ApiError(
            429,
            problem("too_many_requests", message),
            headers={"Retry-After": str(wait)},
            rate_limit={"name": self._name, "limit": limit, "remaining": 0, "retry_after": rfc3339(now + wait)},
        )


class Gate:
    """The middleware around the sandbox's endpoints."""

    def __init__(self, store: Store) -> None:
        self._store = store
        options = self._options = store.options
        self._bucket = TokenBucket("API key", options.rate_limit, options.clock)
        self._alert_bucket = TokenBucket("alert source", options.alert_rate_limit, options.clock)

    async def __call__(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Let a request in, or answer it here; each answer says what time the sandbox's clock shows."""
        is_api = request.scope["path"].startswith(API)
        answer = await (self._record if is_api else self._pass)(request, call_next)
        answer.headers["Date"] = formatdate(self._options.clock(), usegmt=True)
        return answer

    async def _record(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Answer an API request and record both sides before the client sees the answer."""
        request.state.warnings = []
        try:
            raw = await request.body()
        except ClientDisconnect:
            return Response()
        answer = await self._pass(request, call_next)
        if not isinstance(answer, AsciiResponse):
            content = b"".join([part async for part in answer.body_iterator])  # type: ignore[attr-defined]  # starlette says Response, and streams
            answer = Response(content, answer.status_code, answer.headers)
        kept = raw if len(raw) <= self._options.max_body_bytes else b""
        self._store.record(
            Recorded(
                method=request.method,
                path=request.scope["path"],
                query=request.scope["query_string"].decode("latin-1"),
                headers=dict(request.headers),
                raw=kept,
                body=_json(kept),
                status=answer.status_code,
                answer=_json(bytes(answer.body)),
                warnings=request.state.warnings,
            )
        )
        return answer

    async def _pass(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        try:
            _check_host(request.headers.get("host", ""))
            if request.scope["path"].startswith(API):
                self._admit(request, len(await request.body()))
            return await call_next(request)
        except ApiError as error:
            return error_response(error)
        except Exception as error:
            LOG.exception("The sandbox failed to answer %s %s", request.method, request.scope["path"])
            return error_response(ApiError(500, problem("internal_error", type(error).__name__)))

    def _admit(self, request: Request, size: int) -> None:
        options, path = self._options, request.scope["path"]
        given = request.headers.get("authorization", "")
        if path.startswith(ALERTS):
            source = path.removeprefix(ALERTS)
            if self._store.alert_source_removed or source != options.alert_source_id:
                raise not_found(f"The alert source {source!r}")
            _compare(given, options.alert_source_token, "alert source token")
            self._alert_bucket.take()
        else:
            _compare(given, options.api_key, "API key")
            self._bucket.take()
        if size > options.max_body_bytes:
            message = f"The body is larger than {options.max_body_bytes} bytes"
            raise ApiError(413, problem("payload_too_large", message))
        if self._store.v1_removed and f"{path}/".startswith(f"{FIRST_INCIDENTS}/"):
            raise not_found(f"The path {path!r}")


def _compare(given: str, secret: str, what: str) -> None:
    if hmac.compare_digest(given.encode(), f"Bearer {secret}".encode()):
        return
    message = f"No valid {what} was given: expected 'Authorization: Bearer …'"
    headers = {"WWW-Authenticate": "Bearer"}
    raise ApiError(401, problem("invalid_api_key", message), headers=headers)


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None
