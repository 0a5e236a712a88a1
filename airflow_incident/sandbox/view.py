"""What the page asks for: its files, one incident in full, the events, and what a person does to an incident."""

import asyncio
import json
import pathlib
import shlex
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from . import summary
from .catalogue import Catalogue
from .errors import JsonObject, forbidden, not_found
from .gate import AsciiResponse
from .store import Change, Store, StoredIncident

FOLDER = pathlib.Path(__file__).with_name("page")
FILES = {"app.js": "text/javascript", "style.css": "text/css"}
# Seconds of silence after which a comment shows whether the browser is still there.
HEARTBEAT = 15.0
# Characters of a summary that the page's search knows: the error stands first.
SEARCHED = 1000

# Button -> what it does to the incident with this reference.
ACTIONS: dict[str, Callable[[Store, str], JsonObject]] = {
    "accept": lambda store, reference: store.move(reference, "live"),
    "lead": lambda store, reference: store.edit(reference, {"incident_role_assignments": [_lead(store.catalogue)]}),
    "close": lambda store, reference: store.move(reference, "closed"),
}

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def pages(store: Store) -> APIRouter:
    """Return the page's endpoints; they need no key, so they check where a request comes from."""
    router = APIRouter()

    @router.get("/")
    async def index() -> Response:
        return _file("index.html", "text/html")

    @router.get("/incidents/{reference}")
    async def detail(reference: str) -> Response:
        return _file("index.html", "text/html", 200 if store.find(reference) else 404)

    @router.get("/page/events")
    async def events() -> Response:
        return StreamingResponse(_events(store), headers=HEADERS, media_type="text/event-stream")

    @router.get("/page/incidents/{reference}")
    def show(reference: str) -> Response:
        opened = store.show(reference)
        return AsciiResponse(
            {
                "row": _row(opened),
                "incident": opened.incident,
                "request": opened.request,
                "answer": opened.answer,
                "opened_by": opened.opened_by,
                "alert": opened.alert,
                "route": opened.alert and store.catalogue.route_of(opened.alert.get("metadata", {})),
                "attachments": [row["resource"] for row in opened.attachments],
                "summary_html": summary.render(opened.incident.get("summary", "")),
            },
            headers=HEADERS,
        )

    @router.post("/page/incidents/{reference}/{action}")
    async def act(request: Request, reference: str, action: str) -> Response:
        if request.headers.get("origin") != f"{request.url.scheme}://{request.headers.get('host')}":
            raise forbidden("Only the sandbox's own page may change incidents")
        if action not in ACTIONS:
            raise not_found(f"The button {action!r}")
        return AsciiResponse({"incident": ACTIONS[action](store, reference)}, headers=HEADERS)

    @router.get("/page/{name}")
    async def asset(name: str) -> Response:
        if name not in FILES:
            raise not_found(f"The file {name!r}")
        return _file(name, FILES[name])

    return router


def _file(name: str, media_type: str, status: int = 200) -> Response:
    return Response((FOLDER / name).read_bytes(), status, HEADERS, f"{media_type}; charset=utf-8")


async def _events(store: Store) -> AsyncIterator[str]:
    """Send everything once, then every change, until the sandbox ends."""
    loop = asyncio.get_running_loop()
    changes: asyncio.Queue[Change] = asyncio.Queue()

    def queue_change(change: Change) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(changes.put_nowait, change)

    leave = store.listen(queue_change)
    try:
        yield "retry: 1000\n" + _event("snapshot", _snapshot(store))
        while True:
            try:
                change = await asyncio.wait_for(changes.get(), HEARTBEAT)
            except TimeoutError:
                yield ": still here\n\n"
                continue
            if change == "ended":
                return
            if change == "cleared":
                yield _event("snapshot", _snapshot(store))
            else:
                yield _event("incident", _row(change))
    finally:
        leave()


def _event(name: str, data: JsonObject) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def _lead(known: Catalogue) -> JsonObject:
    """Return the assignment of the first person as a lead."""
    role = next(row["id"] for row in known.roles if row["role_type"] == "lead")
    return {"incident_role_id": role, "assignee": {"id": known.users[0]["id"]}}


def _row(opened: StoredIncident) -> JsonObject:
    incident, first = opened.incident, opened.answer["incident"]
    assigned = [row for row in incident["incident_role_assignments"] if "assignee" in row]
    return {name: incident[name] for name in ("id", "reference", "name", "mode", "visibility", "created_at")} | {
        "key": opened.request.get("idempotency_key") or opened.request["deduplication_key"],
        "beginning": incident.get("summary", "")[:SEARCHED],
        "status": incident["incident_status"]["name"],
        "category": incident["incident_status"]["category"],
        "severity": incident.get("severity", {}).get("name"),
        "lead": next((row["assignee"]["name"] for row in assigned if row["role"]["role_type"] == "lead"), None),
        "edited": [name for name in ("name", "summary") if incident.get(name) != first.get(name)],
        "attachments": len(opened.attachments),
        "repeats": opened.repeats,
        "alert": opened.alert and opened.alert["status"],
    }


def _snapshot(store: Store) -> JsonObject:
    body = json.dumps({"idempotency_key": "by-hand-1", "visibility": "public", "name": "Opened by hand"})
    key = shlex.quote(f"Authorization: Bearer {store.api_key}")
    url = f"{store.base_url}/{'v2' if store.v1_removed else 'v1'}/incidents"
    return {
        "incidents": [_row(opened) for opened in store.all()],
        "connection": store.connection_line(),
        "routes": store.catalogue.alert_routes,
        "alert": json.dumps({name: getattr(store.options, name) for name in ("alert_source_id", "alert_source_token")}),
        "curl": f"curl {url} -H {key} -H 'Content-Type: application/json' -d '{body}'",
    }
