"""The flush DAG: delivers every few minutes what could not be delivered at once."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_incident.airflow_bridge.compat import DAG, AirflowFailException, task
from airflow_incident.constants import TAG
from airflow_incident.core.arguments import located_error, strangers
from airflow_incident.notifications import IncidentNotifier, notifier_class

if TYPE_CHECKING:
    from collections.abc import Mapping

DOC = (
    "Delivers what could not be delivered to incident.io at once. A run fails when a failure was refused, or has "
    "waited for an hour; `airflow-incident journal list` shows them."
)

log = logging.getLogger(__name__)


def journal_flush_dag(dag_id: str = "incident_io_flush", schedule: Any = "*/5 * * * *", **kwargs: Any) -> DAG:
    """Return a DAG that delivers what waits in the journal.

    Its run fails when a failure was refused, or has waited for an hour. It opens no incident itself, for that
    would wait in the same journal: callbacks that do are left out.

    Not on Airflow 3.0 to 3.2, where a task cannot list Variables: its run fails there, naming the command to use.

    :param dag_id: ID of the DAG.
    :param schedule: When it runs. Default: every five minutes.
    :param kwargs: What a DAG takes, like `tags` or `on_failure_callback`.
    """
    own: dict[str, Any] = {"start_date": datetime(2026, 1, 1, tzinfo=UTC), "tags": ["incident.io"], "doc_md": DOC}
    fixed = {"catchup": False, "max_active_runs": 1}
    options = own | _without_incidents(kwargs) | fixed
    options["tags"] = [*(options["tags"] or ()), f"{TAG}off"]  # the watcher knows by it that no incident is to open
    options["default_args"] = _without_incidents(options.get("default_args") or {})
    try:
        dag = DAG(dag_id, schedule=schedule, **options)
    except TypeError:
        if odd := strangers("journal_flush_dag", kwargs, ["dag_id", "schedule"], [DAG]):
            raise located_error(odd) from None
        raise
    with dag:
        task(task_id="flush", retries=0)(_flush)()
    return dag


def _without_incidents(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out our own callbacks."""
    kept = dict(arguments)
    for name in [name for name in kept if name.endswith("_callback") and kept[name] is not None]:
        given = kept[name] if isinstance(kept[name], list | tuple) else [kept[name]]
        kept[name] = [
            each for each in given if not issubclass(notifier_class(each) or object, IncidentNotifier)
        ] or None
    return kept


def _flush() -> None:
    from airflow_incident.core.redaction import redact_secrets
    from airflow_incident.delivery.outcome import clean, problems, record_line, summary_line
    from airflow_incident.delivery.record import utc_now
    from airflow_incident.delivery.run import flush
    from airflow_incident.errors import JournalError

    try:
        flushed = flush()
    except JournalError as error:
        hint = "Where Airflow's database is, this does the same: airflow-incident journal flush"
        raise AirflowFailException(f"incident.io: {clean(str(error))}. {hint}") from None
    for said in flushed.log_events(redact_secrets):
        log.log(said.level, "%s", said.line)
    for record in (*flushed.pending, *(dead for dead in flushed.dead if dead not in flushed.refused)):
        log.log(logging.WARNING if record.state == "pending" else logging.ERROR, "incident.io: %s", record_line(record))
    for name, why in flushed.unreadable.items():
        log.warning("incident.io: %s", clean(f"{name} is left alone: {why}"))
    log.info("incident.io: %s", summary_line(flushed))
    if trouble := problems(flushed, utc_now()):
        raise AirflowFailException(f"incident.io: {trouble}")
