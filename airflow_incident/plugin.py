"""The incident.io button on every task instance of a failed run, found by Airflow: a plugin that has one link.

Most processes of Airflow import this. Therefore it imports nothing of ours before somebody looks at a task instance,
but the table of Airflow's own names.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_incident import readable
from airflow_incident.airflow_bridge.compat import AirflowPlugin

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

log = logging.getLogger(__name__)


class RunLink:
    """Leads from a task instance to the incident that its run is in.

    It has the name of an operator's own `IncidentLink`, which Airflow lets go before it: such a step has one button.
    https://airflow.apache.org/docs/apache-airflow/stable/howto/define-extra-link.html
    """

    name = "incident.io"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 -- Airflow's signature
        """Return the incident's page; empty where there is none, which hides the button."""
        try:
            return read_page(ti_key)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- raising here would cost the page all its links
            log.warning("incident.io: no link from a task instance to its incident: %s", readable(error))
            return ""


def read_page(ti_key: TaskInstanceKey) -> str:
    """Return the page of the incident that a task instance's run is in, as the journal has it; empty if there is none.

    :raises Exception: whatever the database raises.
    :raises UnreadableRecordError: if what the journal holds of the run cannot be read.
    """
    # Here, for what is broken must be so inside; incident.io is not asked.
    from airflow_incident.airflow_bridge.database import texts_in_database
    from airflow_incident.airflow_bridge.variables import Variables
    from airflow_incident.core.failure import Failure
    from airflow_incident.delivery.opened import page_of
    from airflow_incident.delivery.record import dag_prefix

    dag_id, task_id, run_id, map_index = ti_key.dag_id, ti_key.task_id, ti_key.run_id, ti_key.map_index
    failure = Failure(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
    return page_of(failure, texts_in_database(dag_prefix(dag_id)), Variables().get)


class IncidentPlugin(AirflowPlugin):
    """What Airflow finds by the entry point `airflow.plugins`."""

    name = "incident_io"
    global_operator_extra_links = [RunLink()]  # noqa: RUF012 -- Airflow's own attribute
