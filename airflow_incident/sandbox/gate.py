"""What every request passes before its endpoint: the host, the size, the key, the rate, the recording."""

import hmac
import ipaddress
import json
import logging
import math
import threading
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import incidents
from .refusals import Refusal, not_found, problem, too_large, unauthenticated
from .store import Recorded, Store

LOG = logging.getLogger(__name__)
API = ("/v1/", "/v2/")
ALERTS = "/v2/alert_events/http/"
FIRST_INCIDENTS = "/v1/incidents"


class Reply(Response):
    """A JSON answer in ASCII, so that even half of a surrogate pair arrives as it was sent."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode the answer."""
        return json.dumps(content, allow_nan=False).encode()


def refuse(refusal: Refusal) -> Reply:
    """Turn a refusal into its answer."""
    return Reply(refusal.body, refusal.status, refusal.headers)


def is_loopback(host: str) -> bool:
    """Tell whether a Host header names this machine; anything else may be a rebound DNS name."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


class Bucket:
    """A token bucket of a minute's requests."""

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
        raise Refusal(
            429,
            "too_many_requests",
            [problem("too_many_requests", f"More than {limit} requests a minute with this {self._name}")],
            headers={"Retry-After": str(wait)},
            rate_limit={
                "name": self._name,
                "limit": limit,
                "remaining": 0,
                "retry_after": incidents.rfc3339(now + wait),
            },
        )


class Gate:
    """The outermost layer of the sandbox's application."""

    def __init__(self, app: ASGIApp, store: Store) -> None:
        self._app = app
        self._store = store
        self._options = store.options
        options = store.options
        self._bucket = Bucket("API key", options.rate_limit, options.clock)
        self._alert_bucket = Bucket("alert source", options.alert_rate_limit, options.clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here; each answer says what time the sandbox's clock shows."""

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self._options.clock(), usegmt=True).encode()
                message = {**message, "headers": [*message.get("headers", []), (b"date", date)]}
            await send(message)

        await self._pass(scope, receive, send_dated)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_loopback(Headers(scope=scope).get("host", "")):
            told = "The sandbox answers only on this machine: use http://127.0.0.1 or http://localhost"
            refusal = Refusal(421, "api_error", [problem("misdirected_request", told)])
            await refuse(refusal)(scope, receive, send)
        elif scope["path"].startswith(API):
            await self._exchange(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an API request and record both sides before the client sees the answer."""
        warnings: list[str] = []
        scope.setdefault("state", {})["warnings"] = warnings
        raw = await _read(receive, self._options.max_body_bytes)
        answer = _Answer()
        try:
            body = self._admit(scope, raw)
            await self._app(scope, _replay(body), answer.send)
        except Refusal as refusal:
            await refuse(refusal)(scope, receive, answer.send)
        except Exception as error:
            LOG.exception("The sandbox failed to answer %s %s", scope["method"], scope["path"])
            answer.messages.clear()
            broken = Refusal(500, "api_error", [problem("internal_error", type(error).__name__)])
            await refuse(broken)(scope, receive, answer.send)
        self._store.record(
            Recorded(
                method=scope["method"],
                path=scope["path"],
                query=scope["query_string"].decode("latin-1"),
                headers=dict(Headers(scope=scope)),
                raw=raw or b"",
                body=_json(raw or b""),
                status=answer.status,
                answer=_json(answer.body),
                warnings=warnings,
            )
        )
        for message in answer.messages:
            await send(message)

    def _admit(self, scope: Scope, raw: bytes | None) -> bytes:
        path = scope["path"]
        given = Headers(scope=scope).get("authorization", "")
        if path.startswith(ALERTS):
            self._admit_event(path.removeprefix(ALERTS), given)
        else:
            _compare(given, self._options.api_key, "API key")
            self._bucket.take()
        if raw is None:
            raise too_large(self._options.max_body_bytes)
        if self._store.v1_removed and f"{path}/".startswith(f"{FIRST_INCIDENTS}/"):
            raise not_found(f"The path {path!r}")
        return raw

    def _admit_event(self, source: str, given: str) -> None:
        """Let an event of the one alert source in, by the source's own token and rate."""
        if self._store.alert_source_removed or source != self._options.alert_source_id:
            raise not_found(f"The alert source {source!r}")
        _compare(given, self._options.alert_source_token, "alert source token")
        self._alert_bucket.take()


def _compare(given: str, secret: str, what: str) -> None:
    if not hmac.compare_digest(given.encode(), f"Bearer {secret}".encode()):
        raise unauthenticated(what)


class _Answer:
    """An endpoint's answer, held back until it is recorded."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def _read(receive: Receive, limit: int) -> bytes | None:
    """Return the whole body, or None if it is larger than the limit."""
    body = bytearray()
    while True:
        message = await receive()
        # A client reads the answer only after it has sent everything: the rest is taken, but not kept.
        if len(body) <= limit:
            body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body) if len(body) <= limit else None


def _replay(raw: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": raw, "more_body": False}

    return receive


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None
