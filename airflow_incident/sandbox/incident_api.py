"""The endpoints of incidents: v1's, v2's, and the updates of both.

https://docs.incident.io/api-reference/incidents-v1/create
https://docs.incident.io/api-reference/incidents-v2/create
"""

from fastapi import APIRouter, Request
from starlette.responses import Response

from . import asking, listing, validation
from .gate import Reply
from .listing import Matches
from .refusals import JsonObject, invalid, not_found, problem
from .shape import Known
from .store import Opened, Store, Version
from .validation import CREATE_FIRST, CREATE_SECOND


def first(store: Store) -> APIRouter:
    """Return v1's endpoints; it has no edit."""
    router = APIRouter()

    @router.post("/v1/incidents")
    async def create(request: Request) -> Response:
        return await _create(store, request, "v1", CREATE_FIRST)

    @router.get("/v1/incidents")
    async def index(request: Request) -> Response:
        asking.demand(store, "viewer")
        wanted = set(filter(None, request.query_params.getlist("status")))
        rows = [opened.shown("v1") for opened in reversed(store.all())]
        return _page(request, rows, lambda row: not wanted or row["status"] in wanted)

    @router.get("/v1/incidents/{incident_id}")
    async def show(incident_id: str) -> Response:
        asking.demand(store, "viewer")
        return Reply({"incident": _by_id(store, incident_id).shown("v1")})

    return router


def second(store: Store) -> APIRouter:
    """Return v2's endpoints."""
    router = APIRouter()

    @router.post("/v2/incidents")
    async def create(request: Request) -> Response:
        return await _create(store, request, "v2", CREATE_SECOND)

    @router.get("/v2/incidents")
    async def index(request: Request) -> Response:
        asking.demand(store, "viewer")
        rows = [opened.incident for opened in store.all()]
        order = request.query_params.get("sort_by") or "created_at_newest_first"
        if order not in ("created_at_newest_first", "created_at_oldest_first"):
            raise invalid([problem("invalid_value", "is neither newest nor oldest first", "sort_by")])
        rows = rows if order == "created_at_oldest_first" else rows[::-1]
        return _page(request, rows, listing.filters(request.query_params.multi_items(), store.catalogue))

    @router.get("/v2/incidents/{incident_id}")
    async def show(incident_id: str) -> Response:
        asking.demand(store, "viewer")
        # v2 also takes the number of a reference.
        if incident_id.isdecimal() and store.has(f"INC-{incident_id}"):
            return Reply({"incident": store.show(f"INC-{incident_id}").incident})
        return Reply({"incident": _by_id(store, incident_id).incident})

    @router.post("/v2/incidents/{incident_id}/actions/edit")
    async def edit(request: Request, incident_id: str) -> Response:
        asking.demand(store, "incident_editor")
        opened = _by_id(store, incident_id)
        payload = await asking.body(request)
        request.state.warnings.extend(validation.check_edit(payload, store.catalogue))
        return Reply({"incident": store.edit(opened.incident["id"], payload["incident"])})

    @router.get("/v2/incident_updates")
    async def updates(request: Request) -> Response:
        asking.demand(store, "viewer")
        wanted = request.query_params.get("incident_id")
        rows = [row for opened in store.all() for row in opened.updates if wanted in (None, "", row["incident_id"])]
        newest = sorted(rows, key=lambda row: row["created_at"], reverse=True)
        return Reply(asking.one_page(request, "incident_updates", newest))

    return router


async def _create(store: Store, request: Request, version: Version, allowed: Known) -> Response:
    asking.demand(store, "incident_creator")
    payload = await asking.body(request)
    severity = store.demand_severity
    request.state.warnings.extend(validation.check_create(payload, store.catalogue, allowed, severity=severity))
    return Reply({"incident": store.create(payload, version)})


def _by_id(store: Store, incident_id: str) -> Opened:
    """Return an incident by its ID alone: references are for people."""
    opened = store.show(incident_id)
    if opened.incident["id"] != incident_id:
        raise not_found(f"The incident {incident_id!r}")
    return opened


def _page(request: Request, rows: list[JsonObject], matches: Matches) -> Response:
    size = asking.page_size(request)
    chosen, after, total = listing.page(rows, size, request.query_params.get("after") or None, matches)
    meta = {"page_size": size, "total_record_count": total} | ({"after": after} if after else {})
    return Reply({"incidents": chosen, "pagination_meta": meta})
