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
from .refusals import JsonObject, Refusal, forbidden, invalid, not_found, problem
from .store import KEY_NAME, Store
from .view import pages

# The document has one limit for what is asked, and a lower one for what is answered.
PAGE_ASKED, PAGE_GIVEN, PAGE_DEFAULT = 500, 250, 25


def build(store: Store) -> ASGIApp:
    """Return the whole application over one store."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.include_router(api(store))
    app.include_router(attachment_api(store))
    app.include_router(pages(store))
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _unrouted)
    return Gate(app, store)


def api(store: Store) -> APIRouter:
    """Return the API's endpoints; the gate has checked the key already."""
    router = APIRouter()

    @router.post("/v1/incidents")
    async def create(request: Request) -> Response:
        _demand(store, "incident_creator")
        payload = await _body(request)
        request.state.warnings.extend(validation.Check(payload).run())
        return Reply({"incident": store.create(payload)})

    @router.get("/v1/incidents")
    async def index(request: Request) -> Response:
        _demand(store, "viewer")
        query = request.query_params
        size = _page_size(query.get("page_size") or str(PAGE_DEFAULT))
        rows, after, total = store.page(size, query.get("after") or None, filter(None, query.getlist("status")))
        meta = {"page_size": size, "total_record_count": total}
        return Reply({"incidents": rows, "pagination_meta": meta | ({"after": after} if after else {})})

    @router.get("/v1/incidents/{incident_id}")
    async def show(incident_id: str) -> Response:
        _demand(store, "viewer")
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


def attachment_api(store: Store) -> APIRouter:
    """Return the endpoints of links that are attached to incidents."""
    router = APIRouter()

    @router.post("/v1/incident_attachments")
    async def attach(request: Request) -> Response:
        _demand(store, "incident_editor")
        payload = await _body(request)
        request.state.warnings.extend(validation.Check(payload).run_attachment())
        return Reply({"incident_attachment": store.attach(payload)}, 201)

    @router.get("/v1/incident_attachments")
    async def attachments(request: Request) -> Response:
        _demand(store, "viewer")
        wanted = {name: request.query_params.get(name) for name in ("incident_id", "external_id", "resource_type")}
        rows = [
            row
            for opened in store.all()
            for row in opened.attachments
            if all(not value or value in (row.get(name), row["resource"].get(name)) for name, value in wanted.items())
        ]
        return Reply({"incident_attachments": rows})

    return router


def _demand(store: Store, role: str) -> None:
    if role not in store.options.roles:
        raise forbidden(role)


async def _body(request: Request) -> JsonObject:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refusal(415, "api_error", [problem("unsupported_media_type", "Send application/json")])
    return validation.parse(await request.body())


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
