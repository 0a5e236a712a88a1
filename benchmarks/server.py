"""A loopback server that answers every notification at once: over HTTP, HTTPS and SMTP."""

import asyncio
import json
import ssl
import threading
from typing import Any, Self

_MOMENT = "2026-01-01T00:00:00.000Z"
_INCIDENT = {
    "id": "01FDAG4SAP5TYPT98WGR2N7W91",
    "reference": "INC-1",
    "name": "DAG orders failed",
    "status": "triage",
    "mode": "real",
    "visibility": "public",
    "permalink": "https://app.incident.io/example/incidents/1",
    "creator": {"api_key": {"id": "01FCNDV6P870EA6S7TK1DSYDG0", "name": "Airflow"}},
    "severity": {
        "id": "01FH5TZRWMNAFB0DZ23FD1TV96",
        "name": "Major",
        "description": "Customers notice.",
        "rank": 2,
        "created_at": _MOMENT,
        "updated_at": _MOMENT,
    },
    "incident_type": {
        "id": "01FCNDV6P870EA6S7TK1DSYDG1",
        "name": "Production",
        "description": "Something that runs for customers.",
        "is_default": True,
        "private_incidents_only": False,
        "create_in_triage": "optional",
        "created_at": _MOMENT,
        "updated_at": _MOMENT,
    },
    "custom_field_entries": [],
    "incident_role_assignments": [],
    "timestamps": [{"name": "Reported at", "last_occurred_at": _MOMENT}],
    "slack_team_id": "T02A1FSLE8J",
    "slack_channel_id": "C02AW36C1M5",
    "slack_channel_name": "inc-1-dag-orders-failed",
    "created_at": _MOMENT,
    "updated_at": _MOMENT,
}
_TEAM = "01FCNDV6P870EA6S7TK1DSYDG2"
_OPTIONS = [
    {"id": f"01FCNDV6P870EA6S7TK1DSYE{number:02d}", "custom_field_id": _TEAM, "sort_key": number, "value": team}
    for number, team in enumerate(["Product", *(f"Team {number}" for number in range(1, 30))])
]
_ANSWERS: dict[str, tuple[int, Any]] = {
    "/v1/incidents": (200, {"incident": _INCIDENT}),
    "/v1/severities": (200, {"severities": [_INCIDENT["severity"]]}),
    "/v2/custom_fields": (
        200,
        {"custom_fields": [{"id": _TEAM, "name": "Affected team", "field_type": "single_select"}]},
    ),
    "/v1/custom_field_options": (
        200,
        {"custom_field_options": _OPTIONS, "pagination_meta": {"page_size": 250, "total_record_count": 30}},
    ),
    "/v2/enqueue": (202, {"status": "success", "message": "Event processed", "dedup_key": "key"}),
    "/v2/alerts": (202, {"result": "Request will be processed", "took": 0.01, "requestId": "id"}),
    "/rest/api/2/issue": (201, {"id": "10000", "key": "OPS-1", "self": "http://127.0.0.1/"}),
}
"""Status and body for each path of incident.io, PagerDuty, Opsgenie and Jira; any other is answered like Slack."""
_LISTS = frozenset({"/v1/severities", "/v2/custom_fields", "/v1/custom_field_options"})
"""What is looked up for names, and is no notification."""


class Server:
    """Serves on free ports of the loopback address until it is left.

    `count` is the number of notifications that came in.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.count = 0
        self.http = self.https = ""
        self.smtp_port = 0
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.http = f"http://127.0.0.1:{self._listen(self._serve_http)}"
        self.https = f"https://127.0.0.1:{self._listen(self._serve_http, ssl=self._tls)}"
        self.smtp_port = self._listen(self._serve_smtp)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _listen(self, serve: Any, **options: Any) -> int:
        started = asyncio.run_coroutine_threadsafe(asyncio.start_server(serve, "127.0.0.1", 0, **options), self._loop)
        return started.result().sockets[0].getsockname()[1]

    async def _serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _read_until(reader, b"\r\n\r\n"):
            await reader.readexactly(_content_length(head))
            path = head.split(" ", 2)[1].partition("?")[0]
            status, body = _ANSWERS.get(path, (200, None))
            content = json.dumps(body) if body else "ok"
            kind = "application/json" if body else "text/plain"
            self.count += path not in _LISTS
            head = f"HTTP/1.1 {status} OK\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
            writer.write((head + content).encode())
        writer.close()

    async def _serve_smtp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while line := await _read_until(reader, b"\r\n"):
            if line.upper().startswith("DATA"):
                writer.write(b"354 go on\r\n")
                await _read_until(reader, b"\r\n.\r\n")
                self.count += 1
            writer.write(b"221 bye\r\n" if line.upper().startswith("QUIT") else b"250 ok\r\n")
        writer.close()


async def _read_until(reader: asyncio.StreamReader, end: bytes) -> str:
    """Read up to a mark; nothing if the other side has left."""
    try:
        return (await reader.readuntil(end)).decode()
    except (asyncio.IncompleteReadError, OSError):
        return ""


def _content_length(head: str) -> int:
    fields = (line.partition(":") for line in head.lower().split("\r\n"))
    return next((int(value) for name, _, value in fields if name == "content-length"), 0)
