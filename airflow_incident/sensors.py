"""The sensor that holds a DAG until incidents are over."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_incident.airflow_bridge.compat import AirflowFailException, AirflowSensorTimeout, BaseSensorOperator, conf
from airflow_incident.core.arguments import checked
from airflow_incident.core.settings import OPTIONS, read_value
from airflow_incident.errors import ConfigurationError, IncidentIoError, Problem, WrongArgument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_incident.airflow_bridge.config import ConnectionConfig
    from airflow_incident.api.closing import WaitCondition


class IncidentClosedSensor(BaseSensorOperator):
    """Hold a DAG until an incident is over, every incident of a severity or above, or those of this DAG itself.

    An incident is over when it is in none of triage, live and paused: closed, declined, merged, cancelled, and also
    in its post-incident flow, for then the trouble is past. While it waits, each look is one line in the log.
    An outage of incident.io or of the network is one warning and waits on; what waiting cannot fix fails at once.

    With neither `incident_id` nor `severity` it waits for the incidents that failures of this DAG are in, by the
    journal, opened with the same connection; a failure that is not delivered yet is not waited for. Tasks can list
    the journal from Airflow 3.3 on and before Airflow 3; on 3.0 to 3.2 only the incident of this very run (scope
    `run`), and the one that its DAG has open (scope `dag`), are found.

    :param incident_id: ID of the incident; what CreateIncidentOperator returns has it under `id`.
    :param severity: Name or ID of a severity; every incident of it or above counts.
    :param incident_mode: Which incidents of a severity count, `real` (default) or `test`. The sensor's own `mode` is
        Airflow's.
    :param deployment: Name of this Airflow installation in the idempotency key, for the DAG's own incidents.
    :param conn_id: Connection of type `incident_io`. Default: what a rule of `routes_file` says, else
        `incident_io_default`.
    :param deferrable: Wait in the triggerer, without a worker's slot. Default: `[operators] default_deferrable` in
        airflow.cfg.
    """

    template_fields: Sequence[str] = ("incident_id", "severity", "incident_mode", "deployment", "conn_id")
    ui_color = "#f9b5a8"

    def __init__(
        self,
        *,
        incident_id: str | None = None,
        severity: str | None = None,
        incident_mode: str = "real",
        deployment: str | None = None,
        conn_id: str = "",
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        with checked(self, IncidentClosedSensor, locals()) as problems:
            super().__init__(**kwargs)
            if incident_id is not None and severity is not None:
                where = f"{type(self).__name__}(incident_id=…, severity=…)"
                problems.append(WrongArgument(where, "takes one of them, not both"))
        # A template may render to nothing, which must not make it wait for something else.
        self.waits_for = "incident" if incident_id is not None else "severity" if severity is not None else "dag"
        self.incident_id = incident_id
        self.severity = severity
        self.incident_mode = incident_mode
        self.deployment = deployment
        self.conn_id = conn_id
        default = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = default if deferrable is None else deferrable
        self._away = False

    def execute(self, context: Context) -> None:
        """Wait, here or in the triggerer.

        :raises AirflowFailException: if waiting cannot help.
        :raises AirflowSensorTimeout: if it takes longer than `timeout`.
        """
        if not self.deferrable:
            super().execute(context)
        elif not self.poke(context):
            self._defer(context, since=time.time())

    def poke(self, context: Context) -> bool:
        """Look once.

        :raises AirflowFailException: if waiting cannot help.
        """
        from airflow_incident.api.closing import retry_message, status_message
        from airflow_incident.operators import final_if_hopeless
        from airflow_incident.triggers import POKE_BUDGET

        try:
            with final_if_hopeless():
                config, wait = self._wait(context)
                waiting = config.client.call(wait.still_open(), budget=POKE_BUDGET)
        except IncidentIoError as error:
            if not self._away:
                self.log.warning("%s", retry_message(error))
            self._away = True
            return False
        self._away = False
        if waiting:
            self.log.info("%s", status_message(waiting, datetime.now(UTC)))
        return not waiting

    def execute_complete(self, context: Context, event: Mapping[str, Any], since: float | None = None) -> None:
        """Go on after the triggerer; this DAG may have opened other incidents meanwhile.

        :param since: When the waiting began, in seconds; `dag.test()` hands on nothing but the event.
        :raises AirflowFailException: if waiting could not help.
        """
        if event["state"] != "over":
            raise AirflowFailException(event.get("error"))
        if self.waits_for == "dag" and not self.poke(context):
            self._defer(context, since=since or time.time())

    def _defer(self, context: Context, *, since: float) -> NoReturn:
        from airflow_incident.operators import final_if_hopeless
        from airflow_incident.triggers import IncidentClosedTrigger

        left = self.timeout - (time.time() - since)
        if left <= 0:
            raise AirflowSensorTimeout(f"incident.io: waited longer than {self.timeout:.0f} s")
        with final_if_hopeless():
            config, wait = self._wait(context)
        trigger = IncidentClosedTrigger(
            incident_ids=wait.incident_ids,
            severity=wait.severity,
            incident_mode=wait.mode,
            may_be_gone=wait.may_be_gone,
            poke_interval=self.poke_interval,
            conn_id=config.conn_id,
        )
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            kwargs={"since": since},
            timeout=timedelta(seconds=left),
        )

    def _wait(self, context: Context) -> tuple[ConnectionConfig, WaitCondition]:
        """Read the connection, and what is waited for."""
        from airflow_incident.airflow_bridge.config import read_airflow_config, read_config, read_routed
        from airflow_incident.api.closing import WaitCondition

        airflow_config = read_airflow_config()
        routed = read_routed(context, airflow_config, level="operator")
        config = read_config(self.conn_id, airflow_config, routed, channel="incident", deployment=self.deployment)
        if self.waits_for == "dag":
            return config, WaitCondition(self._own_incidents(context, config), may_be_gone=True)
        given = self.incident_id if self.waits_for == "incident" else self.severity
        text = "" if given is None else str(given).strip()
        if text in {"", "None"}:
            where = "Incident" if self.waits_for == "incident" else "Severity"
            raise ConfigurationError([Problem(where, f"{given!r} names none; see what the template renders to")])
        if self.waits_for == "incident":
            return config, WaitCondition((text,))
        try:
            mode = read_value(OPTIONS["mode"], self.incident_mode)
        except ValueError as error:
            raise ConfigurationError([Problem("Incident mode", str(error))]) from None
        return config, WaitCondition(severity=text, mode=mode)

    def _own_incidents(self, context: Context, config: ConnectionConfig) -> list[str]:
        from airflow_incident.airflow_bridge.context import read_success
        from airflow_incident.airflow_bridge.variables import Variables
        from airflow_incident.delivery.opened import opened_by

        if not config.settings.journal:
            what = "is turned off, so this DAG's incidents are not known; give incident_id or severity"
            raise ConfigurationError([Problem("Journal", what)])
        run = read_success(context, level="operator")
        opened = opened_by(run, deployment=config.deployment, conn_id=config.conn_id, store=Variables())
        others = sorted({conn_id for conn_id in opened.values() if conn_id != config.conn_id})
        if others:
            # With this connection's key they would look as if they were gone.
            self.log.warning("incident.io: not waiting for incidents of other connections: %s", ", ".join(others))
        return [incident_id for incident_id, conn_id in opened.items() if conn_id == config.conn_id]
