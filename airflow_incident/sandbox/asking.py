"""What every endpoint asks of a request: the key's role, a body, which page of a list."""

import re

from fastapi import Request

from . import shape
from .listing import page
from .refusals import JsonObject, Refusal, forbidden, invalid, problem
from .store import Store

# The document has one limit for what is asked, and a lower one for what is answered.
PAGE_ASKED, PAGE_GIVEN, PAGE_DEFAULT = 500, 250, 25


def demand(store: Store, role: str) -> None:
    """Refuse a key that lacks the role."""
    if role not in store.options.roles:
        raise forbidden(role)


async def body(request: Request) -> JsonObject:
    """Read the request's JSON object."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refusal(415, "api_error", [problem("unsupported_media_type", "Send application/json")])
    return shape.parse(await request.body())


def page_size(request: Request, most: int = PAGE_ASKED) -> int:
    """Return how many rows a page is to have."""
    text = request.query_params.get("page_size") or str(PAGE_DEFAULT)
    if re.fullmatch("[0-9]{1,9}", text) is None or not 1 <= int(text) <= most:
        raise invalid([problem("invalid_value", f"must be a whole number from 1 to {most}", "page_size")])
    return min(int(text), PAGE_GIVEN)


def one_page(request: Request, name: str, rows: list[JsonObject], most: int = PAGE_GIVEN) -> JsonObject:
    """Return the answer of a list that comes in pages."""
    size = page_size(request, most)
    given, after, _total = page(rows, size, request.query_params.get("after") or None)
    return {name: given, "pagination_meta": {"page_size": size} | ({"after": after} if after else {})}
