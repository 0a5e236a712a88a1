"""A sandbox that runs: uvicorn on a loopback port, in a thread, for tests, the demo and the command line."""

import threading
from types import TracebackType
from typing import Any, Self

import uvicorn

from . import view
from .app import build
from .catalogue import Catalogue
from .fault import FaultProxy, bound, parse
from .options import Options
from .refusals import JsonObject
from .store import Recorded, Store


class Sandbox:
    """A local incident.io: `with Sandbox() as box: ...` serves until the block ends.

    :param port: the port on 127.0.0.1; 0 takes any that is free.
    :param fault: a fault's name, or NAME:N for the first N requests; see `sandbox/fault.py`.
    :param certfile: a certificate's path; with it, and `keyfile`, the sandbox speaks TLS.
    :param options: what `Options` takes: api_key, roles, repeat, v1_removed, demand_severity, clock …
    """

    def __init__(
        self,
        *,
        port: int = 0,
        fault: str = "none",
        certfile: str | None = None,
        keyfile: str | None = None,
        **options: Any,
    ) -> None:
        self.options = Options(**options)
        self.store = Store(self.options)
        self.api_key = self.options.api_key
        self.proxy: FaultProxy | None = None
        self._fault, self._times = parse(fault)
        if certfile and self._fault != "none":
            raise ValueError("faults are for plain HTTP: leave out either the fault or the certificate")
        self._port = port
        self._scheme = "https" if certfile else "http"
        config = uvicorn.Config(
            build(self.store),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=3,
            ssl_certfile=certfile,
            ssl_keyfile=keyfile,
        )
        # An unreadable certificate is told here, not by a thread nobody looks at.
        config.load()
        self._server = uvicorn.Server(config)

    def start(self) -> Self:
        """Listen and serve; a taken port raises OSError."""
        self._listener = bound(self._port if self._fault == "none" else 0)
        self._listener.listen(128)
        self.port = self.direct_port = int(self._listener.getsockname()[1])
        if self._fault != "none":
            try:
                self.proxy = FaultProxy(self.direct_port, self._fault, times=self._times, port=self._port)
            except OSError:
                self._listener.close()
                raise
            self.port = self.proxy.start().port
        self.direct_url = f"{self._scheme}://127.0.0.1:{self.direct_port}"
        self.url = self.store.base_url = f"{self._scheme}://127.0.0.1:{self.port}"
        sockets = {"sockets": [self._listener]}
        self._thread = threading.Thread(target=self._server.run, kwargs=sockets, name="sandbox", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Answer what is under way, then close the port."""
        if self.proxy is not None:
            self.proxy.stop()
        # The pages' streams of events would keep the server waiting.
        self.store.end()
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    __enter__ = start

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def incidents(self) -> list[JsonObject]:
        """The incidents as v1 shows them, oldest first."""
        return [opened.shown("v1") for opened in self.store.all()]

    @property
    def incidents_v2(self) -> list[JsonObject]:
        """The incidents as v2 shows them, whichever version opened them, oldest first."""
        return [opened.incident for opened in self.store.all()]

    @property
    def alerts(self) -> list[JsonObject]:
        """The alerts of its alert source, each with the ID of the incident it opened, oldest first."""
        return [row.alert | {"incident_id": row.incident["id"]} for row in self.store.all() if row.alert]

    @property
    def catalogue(self) -> Catalogue:
        """What incidents can refer to, in lists that may be changed; `clear` leaves them as they are."""
        return self.store.catalogue

    @property
    def v1_removed(self) -> bool:
        """Whether /v1/incidents is gone; may be set while it runs."""
        return self.store.v1_removed

    @v1_removed.setter
    def v1_removed(self, removed: bool) -> None:
        self.store.v1_removed = removed

    @property
    def demand_severity(self) -> bool:
        """Whether a create needs a severity; may be set while it runs."""
        return self.store.demand_severity

    @demand_severity.setter
    def demand_severity(self, demanded: bool) -> None:
        self.store.demand_severity = demanded

    @property
    def requests(self) -> list[Recorded]:
        """The API requests so far, oldest first."""
        return self.store.requests()

    def close(self, incident_id: str) -> JsonObject:
        """Close an incident, by ID or reference, as a person would, and return it as v1 shows it."""
        self.store.move(incident_id, "closed")
        return self.store.show(incident_id).shown("v1")

    def move(self, incident_id: str, category: str, name: str = "") -> JsonObject:
        """Put an incident into a status, as a person would, and return it as v2 shows it.

        :param category: triage, live, learning, paused, closed, declined, canceled or merged.
        :param name: which of the category's statuses; without it the first.
        """
        return self.store.move(incident_id, category, name)

    def remove_alert_source(self) -> None:
        """Let the alert source answer 404 from now on, as after somebody deleted it."""
        self.store.alert_source_removed = True

    def clear(self) -> None:
        """Forget all incidents, alerts, keys and requests."""
        self.store.clear()

    def connection_json(self) -> str:
        """Return the value of AIRFLOW_CONN_INCIDENT_IO_DEFAULT that leads Airflow here."""
        return view.connection_json(self.store)

    def connection_line(self) -> str:
        """Return the assignment that a shell can take: AIRFLOW_CONN_INCIDENT_IO_DEFAULT='…'."""
        return view.connection_line(self.store)
