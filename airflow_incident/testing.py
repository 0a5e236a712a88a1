"""The pytest fixture `incident_sandbox`: a local incident.io for one test.

pytest loads this wherever the package is: nothing is imported above that pytest has not imported itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from airflow_incident.constants import CONN_TYPE, DEFAULT_CONN_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_incident.sandbox.server import Sandbox
    from airflow_incident.sandbox.store import StoredIncident


class Incident(NamedTuple):
    """An incident as a test asks for it; `details` is all of it, as version 2 of incident.io's API shows it.

    `key` is the idempotency key that opened it; of one that an alert opened, the deduplication key.
    """

    reference: str
    name: str
    summary: str
    severity: str | None
    incident_type: str
    status: str
    mode: str
    visibility: str
    key: str
    details: dict[str, Any]


class Alert(NamedTuple):
    """An alert, `firing` or `resolved`; `key` is its deduplication key."""

    title: str
    description: str
    status: str
    url: str | None
    key: str
    metadata: dict[str, Any]


class IncidentSandbox:
    """A local incident.io, and the connections that lead to it.

    `box` is the server: it closes incidents as a person would, has the severities, and knows every request.
    """

    def __init__(self, box: Sandbox, environment: pytest.MonkeyPatch) -> None:
        self.box = box
        # In every key, so that no test meets what another one left in the journal: a storm, or what is still to send.
        self._deployment = f"pytest-{os.urandom(4).hex()}"
        self._environment = environment
        self._written: set[str] = set()
        self._extras: dict[str, dict[str, Any]] = {}
        self._note_what_is_written()

    def connect(self, conn_id: str = DEFAULT_CONN_ID, **options: Any) -> None:
        """Lead a connection here, in the environment; `options` are those of a connection, like `severity`."""
        source = self.box.options
        self._extras[conn_id] = {
            "deployment": self._deployment,
            "alert_source_id": source.alert_source_id,
            "alert_source_token": source.alert_source_token,
        } | options
        self._lead_to(self.box.url)

    def _lead_to(self, url: str) -> None:
        fields = {"conn_type": CONN_TYPE, "password": self.box.api_key, "host": url}
        for conn_id, extra in self._extras.items():
            self._environment.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields | {"extra": extra}))

    @contextlib.contextmanager
    def fault(self, name: str) -> Iterator[None]:
        """Break the way to incident.io, as `airflow-incident sandbox --fault` does, until the `with` ends.

        :raises ValueError: if there is no such fault; it lists them.
        """
        from airflow_incident.sandbox.fault import FaultProxy, parse

        fault, times = parse(name)
        with FaultProxy(self.box.port, fault, times=times) as proxy:
            self._lead_to(proxy.url)
            try:
                yield
            finally:
                self._lead_to(self.box.url)

    @property
    def incidents(self) -> list[Incident]:
        """The incidents so far, oldest first."""
        return [_incident(opened) for opened in self.box.all()]

    @property
    def alerts(self) -> list[Alert]:
        """The alerts so far, oldest first."""
        return [
            Alert(
                title=row["title"],
                description=row.get("description", ""),
                status=row["status"],
                url=row.get("source_url"),
                key=row["deduplication_key"],
                metadata=row.get("metadata", {}),
            )
            for row in self.box.alerts
        ]

    def wait_for(self, condition: Callable[[Incident], bool] = lambda _: True, *, seconds: float = 10.0) -> Incident:
        """Return the first incident that meets a condition, once there is one: another process may open it.

        :raises AssertionError: if none does within so many seconds; it lists those that there are.
        """
        __tracebackhide__ = True  # a failure is shown at the test's line
        import queue

        changes: queue.SimpleQueue[object] = queue.SimpleQueue()
        stop_listening = self.box.listen(changes.put)
        until = time.monotonic() + seconds
        try:
            while not (met := [incident for incident in self.incidents if condition(incident)]):
                changes.get(timeout=max(until - time.monotonic(), 0.001))
        except queue.Empty:
            others = "".join(f"\n{row.reference} ({row.status}): {row.name}" for row in self.incidents)
            raise AssertionError(f"No such incident within {seconds:g} s. There are:{others or ' none'}") from None
        finally:
            stop_listening()
        return met[0]

    def forget(self) -> None:
        """Delete what callbacks in this process wrote into the journal: nothing of it may be sent to a real account."""
        from airflow_incident.airflow_bridge.process import PROCESS
        from airflow_incident.airflow_bridge.variables import Variables

        PROCESS.reset()
        while self._written:
            Variables().delete(self._written.pop())

    def _note_what_is_written(self) -> None:
        """Remember each Variable that is written from now on: whatever its deployment, it is this test's."""
        from airflow_incident.airflow_bridge.variables import Variables

        write = Variables.set

        def noted(store: Variables, name: str, text: str) -> None:
            write(store, name, text)
            self._written.add(name)

        self._environment.setattr(Variables, "set", noted)


def _incident(opened: StoredIncident) -> Incident:
    shown = opened.shown("v1")
    request = opened.request
    return Incident(
        reference=shown["reference"],
        name=shown["name"],
        summary=shown.get("summary", ""),
        severity=shown.get("severity", {}).get("name"),
        incident_type=shown["incident_type"]["name"],
        status=opened.incident["incident_status"]["name"],
        mode=shown["mode"],
        visibility=shown["visibility"],
        key=request.get("idempotency_key") or request["deduplication_key"],
        details=opened.incident,
    )


@pytest.fixture
def incident_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[IncidentSandbox]:
    """Serve a local incident.io on a free port, and lead the connection `incident_io_default` there."""
    from airflow_incident.sandbox.command import EXTRA

    try:
        from airflow_incident.sandbox.server import Sandbox
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        # Not skipped: a suite that tests no callback must not look as if it did.
        pytest.fail(f"incident_sandbox needs {error.name}: pip install 'airflow-incident[sandbox]'", pytrace=False)
    with Sandbox() as box:
        sandbox = IncidentSandbox(box, monkeypatch)
        sandbox.connect()
        yield sandbox
    sandbox.forget()
