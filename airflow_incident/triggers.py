"""The trigger that waits until incidents are over, in Airflow's triggerer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_incident.airflow_bridge.config import aread_config
from airflow_incident.api.closing import WaitCondition, retry_message, status_message
from airflow_incident.constants import DEFAULT_CONN_ID
from airflow_incident.errors import IncidentIoError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

POKE_BUDGET = 30.0
"""Seconds that asking once may take, with all retries."""


class IncidentClosedTrigger(BaseTrigger):
    """Wait until incidents are over; what is waited for is in the arguments, so that any triggerer can go on.

    :param incident_ids: IDs of incidents.
    :param severity: Instead of these: name or ID of a severity; every incident of it or above counts.
    :param incident_mode: `real` or `test`; which incidents of a severity count.
    :param may_be_gone: Whether an incident that is not there counts as over.
    :param poke_interval: Seconds between two looks.
    :param conn_id: Connection of type `incident_io`.
    """

    def __init__(
        self,
        *,
        incident_ids: Sequence[str] = (),
        severity: str | None = None,
        incident_mode: str = "real",
        may_be_gone: bool = False,
        poke_interval: float = 60.0,
        conn_id: str = DEFAULT_CONN_ID,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's own has no types
        self.incident_ids = list(incident_ids)
        self.severity = severity
        self.incident_mode = incident_mode
        self.may_be_gone = may_be_gone
        self.poke_interval = poke_interval
        self.conn_id = conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer needs to go on."""
        names = ("incident_ids", "severity", "incident_mode", "may_be_gone", "poke_interval", "conn_id")
        return "airflow_incident.triggers.IncidentClosedTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look again and again; fire when the incidents are over, or when no waiting helps."""
        wait = WaitCondition(self.incident_ids, self.severity, self.incident_mode, self.may_be_gone)
        away = False
        while True:
            try:
                config = await aread_config(self.conn_id)
                waiting = await config.async_client.call(wait.still_open(), budget=POKE_BUDGET)
            except IncidentIoError as error:
                if not error.retryable:
                    yield _event(state="failed", error=f"{error} {error.advice}")
                    return
                if not away:
                    self.log.warning("%s", retry_message(error))
                away = True
            else:
                away = False
                if not waiting:
                    yield _event(state="over")
                    return
                self.log.info("%s", status_message(waiting, datetime.now(UTC)))
            await asyncio.sleep(self.poke_interval)


def _event(**payload: str) -> TriggerEvent:
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's own has no types
