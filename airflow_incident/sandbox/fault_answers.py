"""The answers a broken incident.io, or something between it and us, might give. Bytes only, no sockets."""

import functools
import http
import json
import zlib
from collections.abc import Callable
from email.utils import formatdate

from .incidents import rfc3339
from .refusals import JsonObject, Refusal, problem

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


# How incident.io has told the moment of a retry over the years: whether in a header, and how it is written.
RETRY_DATES: dict[str, tuple[bool, Callable[[float, float], str | None]]] = {
    "error-429": (False, lambda _now, _wait: None),
    "error-429-seconds": (True, lambda _now, wait: str(round(wait))),
    "error-429-float": (True, lambda _now, wait: f"{wait:.2f}"),
    "error-429-rfc3339": (False, lambda now, wait: rfc3339(now + wait)),
    "error-429-http-gmt": (True, _gmt),
    "error-429-http-utc": (True, _utc),
    "error-429-body-utc": (False, _utc),
}


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
        refusal = Refusal(*ERRORS[name])
    else:
        in_header, write = RETRY_DATES[name]
        moment = write(now, wait)
        limit = {"name": "Sandbox key", "limit": 1200, "remaining": 0}
        if in_header:
            headers = {"Retry_After": str(moment)}
        elif moment:
            limit["retry_after"] = moment
        errors = problem("too_many_requests", "Too many requests with this key")
        refusal = Refusal(429, errors, rate_limit=limit)
    return answer(refusal.status, json.dumps(refusal.body).encode(), **headers)


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
