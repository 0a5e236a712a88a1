"""As much of incident.io's v2 as a waiting sensor asks, on 127.0.0.1; checked against the official document."""

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests import contract

AT = "2026-11-23T09:00:00Z"
DATES = {"created_at": AT, "updated_at": AT}
OPEN = {"triage": "Triage", "live": "Fixing", "paused": "Paused"}


def ulid(number: int) -> str:
    return f"01{number:024d}"


def severity(rank: int) -> dict[str, Any]:
    return {
        "id": ulid(rank),
        "name": ("Minor", "Major", "Critical")[rank - 1],
        "description": "d",
        "rank": rank,
    } | DATES


class V2:
    """Incidents whose category and mode a test sets; `script` holds statuses to answer with first, 0 hangs up."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.script: list[int] = []
        self.asked: list[str] = []
        self.after_look: list[Any] = []

    def put(self, number: int, category: str = "live", *, rank: int = 2, mode: str = "standard") -> str:
        """Let an incident stand like this."""
        status = {"id": ulid(50), "name": OPEN.get(category, category.title()), "category": category}
        self.rows[ulid(number)] = {
            "id": ulid(number),
            "reference": f"INC-{number}",
            "name": "x",
            "visibility": "public",
            "mode": mode,
            "creator": {},
            "incident_role_assignments": [],
            "custom_field_entries": [],
            "slack_team_id": "T",
            "slack_channel_id": "C",
            "incident_status": status | {"rank": 1, "description": "d"} | DATES,
            "severity": severity(rank),
            **DATES,
        }
        return ulid(number)

    def answer(self, path: str, query: str) -> tuple[int, dict[str, Any]]:
        """Answer as the official one would."""
        contract.check_request("GET", path, None, query)
        self.asked.append(path)
        status, body = self._found(path, urllib.parse.parse_qs(query))
        if status == 200:
            contract.check_response("GET", path, status, body)
        if self.after_look:
            self.after_look.pop(0)()
        return status, body

    def _found(self, path: str, query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        if path == "/v1/severities":
            return 200, {"severities": [severity(3), severity(1), severity(2)]}
        if path != "/v2/incidents":
            row = self.rows.get(path.rpartition("/")[2])
            return (200, {"incident": row}) if row else (404, {"type": "not_found", "errors": []})
        modes = query.get("mode[one_of]", ["standard", "retrospective"])
        categories = query["status_category[one_of]"]
        least = int(query.get("severity[gte]", ["0"])[0][2:] or 0)
        rows = [
            row
            for row in self.rows.values()
            if row["mode"] in modes
            and row["incident_status"]["category"] in categories
            and row["severity"]["rank"] >= least
            and row["id"] > query.get("after", [""])[0]
        ]
        size = int(query["page_size"][0])
        more = {"after": rows[size - 1]["id"]} if len(rows) > size else {}
        return 200, {"incidents": rows[:size], "pagination_meta": {"page_size": size, **more}}

    def __enter__(self) -> Self:
        v2 = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if v2.script and (status := v2.script.pop(0)) != 200:
                    if status:
                        self._send(status, {"type": "api_error", "errors": []})
                    return
                path, _, query = self.path.partition("?")
                self._send(*v2.answer(path, query))

            def _send(self, status: int, body: dict[str, Any]) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
