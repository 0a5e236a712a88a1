"""The incident.io button on every task instance of a failed run, found by Airflow: a plugin that has one link.

Most processes of Airflow import this. Therefore it imports nothing of ours before somebody looks at a task instance,
but the table of Airflow's own names.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow_incident.compat import AirflowPlugin

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
            from airflow_incident.run_page import read_page  # noqa: PLC0415 -- what is broken must be so inside

            return read_page(ti_key)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- law 3: raising here would cost the page all its links
            log.warning("incident.io: no link from a task instance to its incident: %s", _readable(error))
            return ""


class IncidentPlugin(AirflowPlugin):
    """What Airflow finds by the entry point `airflow.plugins`."""

    name = "incident_io"
    global_operator_extra_links = [RunLink()]  # noqa: RUF012 -- Airflow's own attribute


def _readable(error: BaseException) -> str:
    """Read an error without what looks like a secret; where that is broken as well, by its name alone."""
    try:
        from airflow_incident.core.redaction import redact_secrets  # noqa: PLC0415 -- see above

        return redact_secrets(repr(error))[:300]
    except (Exception, SystemExit):  # noqa: BLE001 -- some have a `__repr__` that raises
        return type(error).__name__
