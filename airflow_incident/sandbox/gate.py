"""What every request passes before its endpoint: the host, the size, the key, the rate, the recording."""

import hmac
import ipaddress
import json
import logging
import math
import threading
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import incidents
from .options import Options
from .refusals import Refusal, problem, too_large, unauthenticated
from .store import KEY_NAME, Recorded, Store

LOG = logging.getLogger(__name__)
API = ("/v1/", "/v2/")


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

    def __init__(self, options: Options) -> None:
        self._options = options
        self._tokens = float(options.rate_limit)
        self._filled_at = options.clock()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Take one token, or refuse with the time at which there is one."""
        limit = self._options.rate_limit
        with self._lock:
            now = self._options.clock()
            self._tokens = min(limit, self._tokens + max(0.0, now - self._filled_at) * limit / 60)
            self._filled_at = now
            if self._tokens >= 1:
                self._tokens -= 1
                return
            wait = math.ceil((1 - self._tokens) * 60 / limit)
        raise Refusal(
            429,
            "too_many_requests",
            [problem("too_many_requests", f"More than {limit} requests a minute with this key")],
            headers={"Retry-After": str(wait)},
            rate_limit={
                "name": KEY_NAME,
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
        self._bucket = Bucket(store.options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
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
            body = self._admit(Headers(scope=scope), raw)
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

    def _admit(self, headers: Headers, raw: bytes | None) -> bytes:
        expected = f"Bearer {self._options.api_key}"
        given = headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise unauthenticated()
        self._bucket.take()
        if raw is None:
            raise too_large(self._options.max_body_bytes)
        return raw


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
