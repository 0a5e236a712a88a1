"""Counts what happened through Airflow's own metrics, wherever this Airflow sends them."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

RECOVERED = "incident_io.recovered"
"""Incidents that were closed because the run recovered."""
DROPPED = "incident_io.dropped"
"""Failures that were never told to incident.io because the run recovered first."""


def count(name: str, number: int) -> None:
    """Add to a counter. Never raises: a number that is lost harms nobody.

    https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/logging-monitoring/metrics.html
    """
    if number <= 0:
        return
    try:
        from airflow.providers.common.compat.sdk import Stats

        Stats.incr(name, number)
    except Exception as error:  # noqa: BLE001 -- law 3: a callback never harms Airflow
        log.debug("incident.io: %s could not be counted (%s)", name, type(error).__name__)
