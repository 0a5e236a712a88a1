"""Hands a report over: through the journal, or straight to incident.io where that is turned off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_incident.api.submit import submission
from airflow_incident.delivery.report import Outcome
from airflow_incident.errors import IncidentIoError

if TYPE_CHECKING:
    from airflow_incident.airflow_bridge.config import ConnectionConfig
    from airflow_incident.delivery.report import Report


def dispatch(report: Report, config: ConnectionConfig, *, seconds: float, may_wait: bool = False) -> Outcome:
    """Deliver a report.

    :param seconds: What it may take in all.
    :param may_wait: Whether it is to be sent even during an outage that this process has met.
    """
    config = config.with_client()
    if config.settings.journal:
        from airflow_incident.delivery.run import write_and_send  # what is turned off costs nothing

        return write_and_send(report, config, seconds=seconds, may_wait=may_wait)
    if config.unusable:
        return Outcome.of(report, config.unusable, kept=False)
    try:
        answer = config.client.call(submission(report.draft, report.terms), budget=seconds)
    except IncidentIoError as error:
        return Outcome.of(report, error, kept=False)
    return Outcome.of(report, answer, kept=False)


async def adispatch(report: Report, config: ConnectionConfig, *, seconds: float) -> Outcome:
    """Async version of `dispatch`."""
    config = config.with_client()
    if config.settings.journal:
        from airflow_incident.delivery.run import awrite_and_send  # what is turned off costs nothing

        return await awrite_and_send(report, config, seconds=seconds)
    if config.unusable:
        return Outcome.of(report, config.unusable, kept=False)
    try:
        answer = await config.async_client.call(submission(report.draft, report.terms), budget=seconds)
    except IncidentIoError as error:
        return Outcome.of(report, error, kept=False)
    return Outcome.of(report, answer, kept=False)
