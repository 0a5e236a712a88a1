"""The endpoints of the API that the sandbox has.

https://docs.incident.io/api-reference
"""

import re

from fastapi import APIRouter, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from . import validation
from .gate import Gate, Reply, refuse
from .refusals import Refusal, forbidden, invalid, not_found, problem
from .store import KEY_NAME, Store
from .view import pages

# The document has one limit for what is asked, and a lower one for what is answered.
PAGE_ASKED, PAGE_GIVEN, PAGE_DEFAULT = 500, 250, 25


def build(store: Store) -> ASGIApp:
    """Return the whole application over one store."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.include_router(api(store))
    app.include_router(pages(store))
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _unrouted)
    return Gate(app, store)


def api(store: Store) -> APIRouter:
    """Return the API's endpoints; the gate has checked the key already."""
    router = APIRouter()

    def demand(role: str) -> None:
        if role not in store.options.roles:
            raise forbidden(role)

    @router.post("/v1/incidents")
    async def create(request: Request) -> Response:
        demand("incident_creator")
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Refusal(415, "api_error", [problem("unsupported_media_type", "Send application/json")])
        payload = validation.parse(await request.body())
        request.state.warnings.extend(validation.Check(payload).run())
        return Reply({"incident": store.create(payload)})

    @router.get("/v1/incidents")
    async def index(request: Request) -> Response:
        demand("viewer")
        query = request.query_params
        size = _page_size(query.get("page_size") or str(PAGE_DEFAULT))
        rows, after, total = store.page(size, query.get("after") or None, filter(None, query.getlist("status")))
        meta = {"page_size": size, "total_record_count": total}
        return Reply({"incidents": rows, "pagination_meta": meta | ({"after": after} if after else {})})

    @router.get("/v1/incidents/{incident_id}")
    async def show(incident_id: str) -> Response:
        demand("viewer")
        incident = store.show(incident_id).incident
        if incident["id"] != incident_id:
            raise not_found(f"The incident {incident_id!r}")
        return Reply({"incident": incident})

    @router.get("/v1/identity")
    async def identity() -> Response:
        return Reply(
            {
                "identity": {
                    "name": KEY_NAME,
                    "roles": list(store.options.roles),
                    "dashboard_url": store.base_url,
                    "team_roles": [],
                    "teams": [],
                }
            }
        )

    return router


def _page_size(text: str) -> int:
    if re.fullmatch("[0-9]{1,9}", text) is None or not 1 <= int(text) <= PAGE_ASKED:
        told = f"must be a whole number from 1 to {PAGE_ASKED}"
        raise invalid([problem("invalid_value", told, "page_size")])
    return min(int(text), PAGE_GIVEN)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - registered for this class
    return refuse(error)


async def _unrouted(request: Request, error: Exception) -> Response:
    """Answer an unknown path (404) or method (405) as the API does."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    if error.status_code == 404:  # noqa: PLR2004 - the protocol's own number
        return refuse(not_found(f"The path {request.url.path!r}"))
    told = f"{request.method} is not possible here"
    headers = dict(error.headers or {})
    return refuse(Refusal(error.status_code, "api_error", [problem("method_not_allowed", told)], headers=headers))
