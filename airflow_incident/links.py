"""The incident.io button of a step that opens an incident itself; that of every other task is the plugin's."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_incident.airflow_bridge.compat import BaseOperatorLink, XCom
from airflow_incident.core.account import is_incident_page

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

log = logging.getLogger(__name__)

XCOM_KEY = "incident_io"
"""Where an operator leaves its incident: a mapping with id, reference and permalink."""


class IncidentLink(BaseOperatorLink):
    """Leads from a task instance to the incident that it opened."""

    name = "incident.io"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 -- Airflow's signature
        """Return the incident's page; empty where there is none, which hides the button.

        Airflow 3.0 asks at the end of a task, before its callbacks: what raises here would cost the task all of them.
        """
        try:
            incident: Any = XCom.get_value(key=XCOM_KEY, ti_key=ti_key)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a custom XCom backend may raise anything
            log.warning("incident.io: no link from a step to its incident: %s", type(error).__name__)
            return ""
        page = str(incident.get("permalink") or "") if isinstance(incident, dict) else ""
        return page if is_incident_page(page) else ""
