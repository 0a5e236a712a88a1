"""The sandbox's application: every endpoint of the API that it has, and the page, behind one gate.

https://docs.incident.io/api-reference
"""

from fastapi import APIRouter, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from . import alerts, asking, attachments, incident_api, incidents, list_api
from .gate import ALERTS, Gate, Reply, refuse
from .refusals import Refusal, not_found, problem
from .store import Store
from .view import pages


def build(store: Store) -> ASGIApp:
    """Return the whole application over one store; the gate checks the key before any endpoint does its work."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    routers = (
        incident_api.first,
        incident_api.second,
        list_api.lists,
        attachment_api,
        alert_api,
        identity_api,
        pages,
    )
    for router in routers:
        app.include_router(router(store))
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _unrouted)
    return Gate(app, store)


def identity_api(store: Store) -> APIRouter:
    """Return the endpoint that tells whose key it is."""
    router = APIRouter()

    @router.get("/v1/identity")
    async def identity() -> Response:
        return Reply(
            {
                "identity": {
                    "name": incidents.CREATOR["api_key"]["name"],
                    "roles": list(store.options.roles),
                    "dashboard_url": store.base_url,
                    "team_roles": [],
                    "teams": [],
                }
            }
        )

    return router


def alert_api(store: Store) -> APIRouter:
    """Return the endpoint of an HTTP alert source; the gate has checked the source's own token."""
    router = APIRouter()

    @router.post(ALERTS + "{source_id}")
    async def event(request: Request) -> Response:
        payload = await asking.body(request)
        request.state.warnings.extend(alerts.check(payload))
        store.alert(payload)
        key = payload["deduplication_key"]
        return Reply({"deduplication_key": key, "message": "Taken", "status": "success"}, 202)

    return router


def attachment_api(store: Store) -> APIRouter:
    """Return the endpoints of links that are attached to incidents."""
    router = APIRouter()

    @router.post("/v1/incident_attachments")
    async def attach(request: Request) -> Response:
        asking.demand(store, "incident_editor")
        payload = await asking.body(request)
        request.state.warnings.extend(attachments.check(payload))
        return Reply({"incident_attachment": store.attach(payload)}, 201)

    @router.get("/v1/incident_attachments")
    async def index(request: Request) -> Response:
        asking.demand(store, "viewer")
        wanted = {name: request.query_params.get(name) for name in ("incident_id", "external_id", "resource_type")}
        rows = [
            row
            for opened in store.all()
            for row in opened.attachments
            if all(not value or value in (row.get(name), row["resource"].get(name)) for name, value in wanted.items())
        ]
        return Reply({"incident_attachments": rows})

    @router.delete("/v1/incident_attachments/{attachment_id}")
    async def detach(attachment_id: str) -> Response:
        asking.demand(store, "incident_editor")
        store.detach(attachment_id)
        return Response(status_code=204)

    return router


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
