"""The deliberate steps: operators that open and close incidents as part of a DAG."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_incident.airflow_bridge.compat import AirflowFailException, BaseOperator
from airflow_incident.core.arguments import checked
from airflow_incident.errors import ConfigurationError, IncidentIoError, JournalError, Problem, TransportError
from airflow_incident.links import XCOM_KEY, IncidentLink

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.sdk import Context

    from airflow_incident.airflow_bridge.config import ConnectionConfig
    from airflow_incident.delivery.outcome import ReportResult
    from airflow_incident.delivery.recovery import Recovery


class CreateIncidentOperator(BaseOperator):
    """Open an incident at incident.io as a step of a DAG.

    By default it shares the run's key with the failure callbacks, so that together they make one incident; `key`
    and `scope` make a separate one. As the only leaf of a DAG a successful step would turn a failed run green:
    set `then_fail` there. Returns id, reference and permalink; the id is None if incident.io answers only that
    the incident is open already.

    What is not given here is taken from the rules of `routes_file`, the connection, or `[incident_io]` in airflow.cfg.

    :param name: Title of the incident. Default: which DAG failed.
    :param summary: Text of the incident, as markdown. Default: all that Airflow knows.
    :param severity: Name or ID of the severity.
    :param incident_type: Name or ID of the incident type.
    :param mode: `real` or `test`.
    :param visibility: `public` or `private`.
    :param status: Name or ID of the status that the incident opens in. Default: triage.
    :param custom_fields: Names or IDs of custom fields to their values, like `{"Affected team": "Product"}`.
    :param roles: Names or IDs of incident roles to people: an email address, a Slack ID or an incident.io ID.
    :param slack_team_id: Slack workspace, with Enterprise Grid only.
    :param source_message_channel_id: Channel of the Slack message that the incident comes from.
    :param source_message_timestamp: Time stamp of that message.
    :param scope: What one incident stands for: `run` (default), `task`, `task_instance` or `dag`.
    :param key: A name that sets this incident apart from others of the same run.
    :param runbook: URL of the page that says what to do. Default: a link named so in `doc_md`.
    :param then_fail: Fail this task once the incident is open. Default: false.
    :param deployment: Name of this Airflow installation in the idempotency key.
    :param conn_id: Connection of type `incident_io`. Default: what a rule of `routes_file` says, else
        `incident_io_default`.
    """

    template_fields: Sequence[str] = (
        "name",
        "summary",
        "severity",
        "incident_type",
        "mode",
        "visibility",
        "status",
        "custom_fields",
        "roles",
        "slack_team_id",
        "source_message_channel_id",
        "source_message_timestamp",
        "scope",
        "key",
        "runbook",
        "deployment",
        "conn_id",
    )
    template_fields_renderers = {"summary": "md", "custom_fields": "json", "roles": "json"}  # noqa: RUF012
    operator_extra_links = (IncidentLink(),)
    ui_color = "#f25533"
    ui_fgcolor = "#ffffff"

    def __init__(
        self,
        *,
        name: str | None = None,
        summary: str | None = None,
        severity: str | None = None,
        incident_type: str | None = None,
        mode: str | None = None,
        visibility: str | None = None,
        status: str | None = None,
        custom_fields: Mapping[str, Any] | None = None,
        roles: Mapping[str, Any] | None = None,
        slack_team_id: str | None = None,
        source_message_channel_id: str | None = None,
        source_message_timestamp: str | None = None,
        scope: str | None = None,
        key: str | None = None,
        runbook: str | None = None,
        then_fail: bool = False,
        deployment: str | None = None,
        conn_id: str = "",
        **kwargs: Any,
    ) -> None:
        if mode in ("poke", "reschedule"):  # a sensor's, from default_args
            mode = None
        with checked(self, CreateIncidentOperator, locals()):
            super().__init__(**kwargs)
        self.name = name
        self.summary = summary
        self.severity = severity
        self.incident_type = incident_type
        self.mode = mode
        self.visibility = visibility
        self.status = status
        self.custom_fields = custom_fields
        self.roles = roles
        self.slack_team_id = slack_team_id
        self.source_message_channel_id = source_message_channel_id
        self.source_message_timestamp = source_message_timestamp
        self.scope = scope
        self.key = key
        self.runbook = runbook
        self.then_fail = then_fail
        self.deployment = deployment
        self.conn_id = conn_id

    def execute(self, context: Context) -> dict[str, str | None] | None:
        """Open the incident.

        :raises AirflowFailException: if a retry cannot help, or if `then_fail` is set.
        :raises IncidentIoError: if a retry may help.
        """
        with final_if_hopeless():
            opened = self._open(context)
        if opened:
            context["ti"].xcom_push(key=XCOM_KEY, value=opened)
        if self.then_fail:
            if opened and self.do_xcom_push:  # a task that fails returns nothing
                context["ti"].xcom_push(key="return_value", value=opened)
            raise AirflowFailException(_why(opened))
        return opened

    def _open(self, context: Context) -> dict[str, str | None] | None:
        from airflow_incident.airflow_bridge.context import read_failure
        from airflow_incident.airflow_bridge.stats import emit
        from airflow_incident.airflow_bridge.templates import Templates
        from airflow_incident.core.timing import BUDGET
        from airflow_incident.delivery import run
        from airflow_incident.delivery.report import IncidentContent, prepare

        began = time.monotonic()
        config = _read_config(self, CreateIncidentOperator.template_fields, context, "nothing is opened")
        if config is None:
            return None
        for note in config.notes:
            self.log.warning("incident.io: %s", note)
        templates = Templates(context, config.redact, self.log, rendered=("argument",))
        config = templates.fields(config)
        failure = config.with_pages(templates.runbook(read_failure(context, level="operator"), config))
        message = ("source_message_channel_id", "source_message_timestamp")
        # Airflow has rendered what the step itself says.
        routed = config.templates({name: None for name in ("name", "summary") if getattr(self, name) is None})
        texts = {name: templates.text(name, template) for name, template in routed.items()}
        wish = IncidentContent(
            name=texts.get("name", self.name),
            summary=texts.get("summary", self.summary),
            key_name=self.key,
            fields={name: getattr(self, name) for name in message},
            notes=templates.notes,
            problems=config.problems,
            strict=True,
        )
        report = prepare(failure, config.settings, wish, deployment=config.deployment, redact=config.redact)
        outcome = run.report(report, config, seconds=BUDGET, may_wait=True)
        emit(self.log, outcome.log_events(config.redact, time.monotonic() - began))
        if outcome.error and outcome.kind != "already_open":
            raise outcome.error
        if outcome.kind == "kept":
            raise TransportError("incident.io has asked to wait; the incident is kept in the journal")
        self._warn_if_landed_elsewhere(outcome)
        return _named(outcome.incident)

    def _warn_if_landed_elsewhere(self, outcome: ReportResult) -> None:
        """Tell when this run's key had an incident of another name."""
        from airflow_incident.api.incident import incident_label

        incident, wanted = outcome.incident, outcome.report.draft["name"]
        if incident is not None and incident.name is not None and incident.name != wanted:
            self.log.warning(
                "incident.io: landed on %s (%r), which this run had opened before; to open a separate incident, "
                "set key or scope",
                incident_label(incident),
                incident.name,
            )


def _why(opened: Mapping[str, Any] | None) -> str:
    from airflow_incident.api.incident import IncidentState, incident_name

    if not opened:
        return "then_fail is set; incidents are turned off, so none was opened"
    if not opened["id"]:
        return "then_fail is set; an incident is already open for this run"
    return f"then_fail is set; {incident_name(IncidentState(**opened))} is open"


class ResolveIncidentOperator(BaseOperator):
    """Close an incident at incident.io as a step of a DAG.

    With `incident_id` it closes that one, else what earlier attempts of this run have opened. An incident that a
    person has claimed (it has left triage, or has a lead) stays open and gets a link to the run, unless `resolve` is
    `always`. Returns a list of the incidents that are closed now, each with id, reference and permalink.

    What is not given here is taken from the rules of `routes_file`, the connection, or `[incident_io]` in airflow.cfg.

    :param incident_id: ID of the incident to close; what `CreateIncidentOperator` returns has it under `id`. What
        incident.io shows then decides whether a person has claimed it, also a lead or a status that a step has set.
    :param scope: What one incident stands for: `run` (default), `task`, `task_instance` or `dag`.
    :param key: The name that was given to `CreateIncidentOperator` to set the incident apart.
    :param resolve: `if_unclaimed` (default) or `always`.
    :param resolved_status: Name or ID of the status to move to. Default: the account's first closed status.
    :param note: Title of the link that is attached. Default: which run recovered.
    :param deployment: Name of this Airflow installation in the idempotency key.
    :param conn_id: Connection of type `incident_io`. Default: what a rule of `routes_file` says, else
        `incident_io_default`.
    """

    template_fields: Sequence[str] = (
        "incident_id",
        "scope",
        "key",
        "resolve",
        "resolved_status",
        "note",
        "deployment",
        "conn_id",
    )
    ui_color = "#f25533"
    ui_fgcolor = "#ffffff"

    def __init__(
        self,
        *,
        incident_id: str | None = None,
        scope: str | None = None,
        key: str | None = None,
        resolve: str | None = None,
        resolved_status: str | None = None,
        note: str | None = None,
        deployment: str | None = None,
        conn_id: str = "",
        **kwargs: Any,
    ) -> None:
        with checked(self, ResolveIncidentOperator, locals()):
            super().__init__(**kwargs)
        self.incident_id = incident_id
        self.closes_one = incident_id is not None
        self.scope = scope
        self.key = key
        self.resolve = resolve
        self.resolved_status = resolved_status
        self.note = note
        self.deployment = deployment
        self.conn_id = conn_id

    def execute(self, context: Context) -> list[dict[str, str | None]]:
        """Close the incident.

        :raises AirflowFailException: if a retry cannot help.
        :raises IncidentIoError: if a retry may help.
        """
        with final_if_hopeless():
            return self._close(context)

    def _close(self, context: Context) -> list[dict[str, str | None]]:
        from airflow_incident.airflow_bridge.context import read_success
        from airflow_incident.delivery.recovery import recovery_of

        config = _read_config(self, ResolveIncidentOperator.template_fields, context, "nothing is closed")
        if config is None:
            return []
        for warning in config.warnings:
            self.log.warning("incident.io: %s", warning)
        success = read_success(context, level="operator")
        recovery = recovery_of(success, config, note=self.note, key_name=self.key)
        return self._close_one(recovery, config) if self.closes_one else self._close_earlier(recovery, config)

    def _close_one(self, recovery: Recovery, config: ConnectionConfig) -> list[dict[str, str | None]]:
        # A template may render to nothing, which must not make it close something else.
        if str(self.incident_id).strip() in {"", "None"}:
            told = f"{self.incident_id!r} names none; see what the template renders to"
            raise ConfigurationError([Problem("Incident", told)], conn_id=config.conn_id)
        from airflow_incident.airflow_bridge.stats import emit
        from airflow_incident.api.closing import close_sequence
        from airflow_incident.core.timing import BUDGET
        from airflow_incident.delivery.outcome import close_event

        became = config.client.call(close_sequence(str(self.incident_id), recovery.options), budget=BUDGET)
        if became.error:
            raise became.error
        emit(self.log, [close_event(became, recovery.success, config.redact)])
        return [_named(became.state)] if became.kind in {"closed", "already_closed"} else []

    def _close_earlier(self, recovery: Recovery, config: ConnectionConfig) -> list[dict[str, str | None]]:
        from airflow_incident.airflow_bridge.stats import emit
        from airflow_incident.core.timing import BUDGET
        from airflow_incident.delivery import run

        if not config.settings.journal:
            what = "is off, so nobody knows what was opened; give incident_id"
            raise ConfigurationError([Problem("Journal", what)], conn_id=config.conn_id)
        recovered = run.recover(recovery, config, seconds=BUDGET, may_wait=True)
        emit(self.log, recovered.log_events(config.redact, recovery.success))
        if recovered.error:
            raise recovered.error
        if recovered.journal_error:
            raise JournalError(recovered.journal_error)
        closed = [s.record.incident for s in recovered.settled if s.kind in {"closed", "already_closed"}]
        return [_named(incident) for incident in closed if incident]


@contextmanager
def final_if_hopeless() -> Iterator[None]:
    """Fail a task for good where a retry cannot help.

    :raises AirflowFailException: in place of an error that stays.
    """
    try:
        yield
    except IncidentIoError as error:
        if error.retryable:
            raise
        raise AirflowFailException(f"{error} {error.advice}") from None


def _read_config(operator: Any, fields: Sequence[str], context: Context, off: str) -> ConnectionConfig | None:
    """Read an operator's connection, merged with its fields; where incidents are turned off, log that."""
    from airflow_incident.airflow_bridge.config import read_airflow_config, read_config, read_routed, why_disabled
    from airflow_incident.airflow_bridge.context import ids
    from airflow_incident.airflow_bridge.stats import emit, log_event
    from airflow_incident.core.settings import options_in

    airflow_config = read_airflow_config()
    routed = read_routed(context, airflow_config, level="operator")
    if routed and routed.problems:
        operator.log.warning("incident.io: %s", routed.warning)
    if not (why := why_disabled(airflow_config, routed)):
        given = {
            option.name: getattr(operator, option.name) for option in options_in("argument") if option.name in fields
        }
        # A step opens and closes incidents, whatever rules make of failures.
        return read_config(operator.conn_id, airflow_config, routed, **{"channel": "incident"} | given)
    dag_id, run_id = ids(context)
    emit(operator.log, [log_event("suppressed", logging.INFO, f"{off}, {why}", str, dag_id=dag_id, run_id=run_id)])
    return None


def _named(incident: Any) -> dict[str, str | None]:
    return {name: getattr(incident, name, None) for name in ("id", "reference", "permalink")}
