"""The answers a broken incident.io, or something between it and us, might give. Bytes only, no sockets."""

import functools
import http
import json
import zlib
from collections.abc import Callable
from email.utils import formatdate

from .errors import ApiError, JsonObject, problem
from .incidents import rfc3339

HUGE = 50 * 1024 * 1024
BOMB = 100 * 1024 * 1024

# Status, and the one problem: https://docs.incident.io/api-reference/introduction
ERRORS: dict[str, tuple[int, JsonObject]] = {
    "error-401": (401, problem("invalid_api_key", "No valid API key was given")),
    "error-403": (403, problem("forbidden", "This API key lacks a role")),
    "error-404": (404, problem("not_found", "There is no such resource")),
    "error-409": (409, problem("conflict", "There is such an incident", "idempotency_key")),
    "error-422": (422, problem("is_required", "A severity is required", "severity_id")),
    "error-503": (503, problem("unavailable", "Try again in a moment")),
}
HTML_ERRORS = {"error-500-html": 500, "error-502-html": 502}


def _gmt(now: float, wait: float) -> str:
    # https://www.rfc-editor.org/rfc/rfc9110#name-date-time-formats
    return formatdate(now + wait, usegmt=True)


def _utc(now: float, wait: float) -> str:
    return _gmt(now, wait).replace("GMT", "UTC")


# The ways in which incident.io has given the moment of a retry: in a header, or in the body's `rate_limit`.
RETRY_DATES: dict[str, tuple[str, Callable[[float, float], str]]] = {
    "error-429": ("nowhere", _gmt),
    "error-429-seconds": ("header", lambda _now, wait: str(round(wait))),
    "error-429-float": ("header", lambda _now, wait: f"{wait:.2f}"),
    "error-429-rfc3339": ("body", lambda now, wait: rfc3339(now + wait)),
    "error-429-http-gmt": ("header", _gmt),
    "error-429-http-utc": ("header", _utc),
    "error-429-body-utc": ("body", _utc),
}
NAMES = (*ERRORS, *RETRY_DATES, *HTML_ERRORS)


def head(status: int, headers: dict[str, str]) -> bytes:
    """Return an answer's first line and headers."""
    lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def answer(status: int, body: bytes, media_type: str = "application/json", **headers: str) -> bytes:
    """Return a whole answer; `headers` spells a dash as an underscore."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return head(status, {"Content-Type": media_type, "Content-Length": str(len(body)), **given}) + body


def error(name: str, now: float, wait: float) -> bytes:
    """Return the error answer with this name; a retry is possible `wait` seconds after `now`."""
    if name in HTML_ERRORS:
        status = HTML_ERRORS[name]
        phrase = http.HTTPStatus(status).phrase
        page = f"<html><head><title>{status} {phrase}</title></head><body><h1>{phrase}</h1></body></html>"
        return answer(status, page.encode(), "text/html; charset=utf-8")
    headers: dict[str, str] = {}
    if name in ERRORS:
        refused = ApiError(*ERRORS[name])
    else:
        where, write = RETRY_DATES[name]
        limit = {"name": "Sandbox key", "limit": 1200, "remaining": 0}
        limit |= {"retry_after": write(now, wait)} if where == "body" else {}
        headers |= {"Retry_After": write(now, wait)} if where == "header" else {}
        refused = ApiError(429, problem("too_many_requests", "Too many requests with this key"), rate_limit=limit)
    return answer(refused.status, json.dumps(refused.body).encode(), **headers)


def padded(body: bytes) -> tuple[bytes, bytes]:
    """Return what to put before and after any amount of padding to keep this JSON object valid."""
    opening = body.rstrip().removesuffix(b"}")
    return opening + (b"" if opening.endswith(b"{") else b", ") + b'"padding": "', b'"}'


@functools.lru_cache(maxsize=1)
def bomb(body: bytes) -> bytes:
    """Return the padded object as gzip: small on the wire, `BOMB` bytes when it is opened."""
    before, after = padded(body)
    packer = zlib.compressobj(wbits=31)
    block = b"x" * (1024 * 1024)
    pieces = [packer.compress(before), *(packer.compress(block) for _ in range(BOMB // len(block)))]
    return b"".join([*pieces, packer.compress(after), packer.flush()])
