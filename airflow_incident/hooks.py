"""The hook: every verb of incident.io, with the key of an Airflow connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from airflow_incident.airflow_bridge.airflow_cfg import unknown_options
from airflow_incident.airflow_bridge.compat import BaseHook
from airflow_incident.airflow_bridge.config import aread_config, examine_config, read_config
from airflow_incident.api import endpoints
from airflow_incident.api.exchange import BUDGET
from airflow_incident.api.verbs import Asked, Verbs
from airflow_incident.constants import CONN_TYPE, DEFAULT_CONN_ID
from airflow_incident.core.settings import OPTIONS, unknown_settings
from airflow_incident.errors import ConfigurationError, IncidentIoError
from airflow_incident.provider import form_fields, form_layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_incident.airflow_bridge.airflow_cfg import AirflowConfig
    from airflow_incident.airflow_bridge.config import ConnectionConfig
    from airflow_incident.api.calls import CallSequence
    from airflow_incident.api.client import Client
    from airflow_incident.api.closing import CloseResult
    from airflow_incident.api.models import Incident
    from airflow_incident.core.account import Account

T = TypeVar("T")

TEST_BUDGET = 10.0
"""Seconds that "Test connection" may take."""

NEEDED_ROLE = "incident_creator"
HELPFUL_ROLES = {
    "viewer": "looking up names, showing and listing incidents, or closing those of runs that recovered",
    "incident_editor": "closing incidents of runs that recovered, or attaching links",
}
"""What a key without a role cannot do. https://docs.incident.io/api-reference/introduction"""
_KEYLESS = 'There is no API key, so nothing was asked of incident.io and only channel="alert" can be used.'


class IncidentHook(Verbs, BaseHook):
    """Talk to incident.io with the key of an Airflow connection.

    Every method has an async twin with an `a` before its name. Each ends within `budget` seconds, default 60, with all
    its retries and pages, and raises an IncidentIoError if it fails.

    :param conn_id: The connection, of type `incident_io`.
    """

    conn_name_attr = "conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONN_TYPE
    hook_name = "incident.io"

    def __init__(self, conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def config(self, airflow_config: AirflowConfig | None = None, **arguments: Any) -> ConnectionConfig:
        """Read the connection and merge it with arguments and airflow.cfg.

        :raises MissingConnectionError: if there is no such connection.
        :raises ConfigurationError: naming every setting that cannot be used.
        """
        return read_config(self.conn_id, airflow_config, **arguments)

    async def aconfig(self, airflow_config: AirflowConfig | None = None, **arguments: Any) -> ConnectionConfig:
        """Async version of `profile`."""
        return await aread_config(self.conn_id, airflow_config, **arguments)

    def get_conn(self) -> Client:
        """Return the client, for calls that have no method here.

        :raises ConfigurationError: if the connection cannot be used.
        """
        return self.config().client

    def create_incident(self, *, idempotency_key: str, budget: float = BUDGET, **fields: Any) -> Incident:
        """Open an incident, or get the one that the key opened before.

        :param idempotency_key: Unique per incident; the same key never opens two.
        :param budget: Seconds for all attempts together.
        :param fields: `name`, `summary`, `source_message_channel_id`, `source_message_timestamp`, and the options
            of the README's table, like `severity`; the connection and airflow.cfg stand in for those not given.
        :raises ConfigurationError: naming every field that cannot be used.
        :raises IncidentIoError: if the incident could not be opened.
        """
        config = self.config(**_options(fields))
        return config.client.call(_submission(config, idempotency_key, fields), budget=budget)

    async def acreate_incident(self, *, idempotency_key: str, budget: float = BUDGET, **fields: Any) -> Incident:
        """Async version of `create_incident`."""
        config = await self.aconfig(**_options(fields))
        return await config.async_client.call(_submission(config, idempotency_key, fields), budget=budget)

    def resolve_incident(
        self,
        incident_id: str,
        *,
        status: str | None = None,
        note: str | None = None,
        url: str | None = None,
        always: bool = False,
        budget: float = BUDGET,
    ) -> CloseResult:
        """Close an incident; one that a person has claimed only gets the link, unless `always` is set.

        :param status: Name or ID of the status to move to. Default: `resolved_status` of the connection or of
            airflow.cfg, then the account's first closed status.
        :param note: Title of the link that is attached.
        :param url: Address of that link; without it, none is attached.
        :param budget: Seconds for all requests together.
        :returns: What became of it: its `kind` is `closed`, `already_closed` (it was closed before) or `claimed`.
        :raises NotFoundError: if there is no such incident.
        :raises IncidentIoError: if it could not be closed.
        """
        config = self.config(resolved_status=status)
        plan = _resolution(config, incident_id, note=note, url=url, always=always)
        return _closed(config.client.call(plan, budget=budget))

    async def aresolve_incident(
        self,
        incident_id: str,
        *,
        status: str | None = None,
        note: str | None = None,
        url: str | None = None,
        always: bool = False,
        budget: float = BUDGET,
    ) -> CloseResult:
        """Async version of `resolve_incident`."""
        config = await self.aconfig(resolved_status=status)
        plan = _resolution(config, incident_id, note=note, url=url, always=always)
        return _closed(await config.async_client.call(plan, budget=budget))

    def test_connection(self) -> tuple[bool, str]:
        """Ask incident.io who the key is; nothing is opened.

        It fails for what keeps incidents from opening, and for each setting that has no effect: who tests the
        connection wants to know of a slip.
        """
        config = examine_config(self.conn_id)
        wrong = _wrong_settings(config)
        if config.unusable:
            return False, " ".join([f"{config.unusable}. {config.unusable.advice}", *wrong])
        if config.for_alerts_alone:
            told = [*wrong, _KEYLESS, *_alert_source_words(config.account), *config.unnamed_notes]
            return not wrong, " ".join(told)
        try:
            identity = config.client.call(endpoints.show_identity(), budget=TEST_BUDGET)
        except IncidentIoError as error:
            return False, " ".join([f"{error} {error.advice}", *wrong])
        if NEEDED_ROLE not in identity.roles:
            return (
                False,
                f"The API key {identity.name!r} lacks the role 'incident creator'; it cannot open incidents.",
            )
        gaps = [
            f"Without the role {role.replace('_', ' ')!r} there is no {loss}."
            for role, loss in HELPFUL_ROLES.items()
            if role not in identity.roles
        ]
        told = [f"Connected to incident.io as {identity.name!r}, deployment {config.deployment!r}.", *wrong, *gaps]
        return not wrong, " ".join([*told, *_alert_source_words(config.account), *config.unnamed_notes])

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Build the form of Airflow before 3.2; newer ones read it from the provider's declaration."""
        return form_fields()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Label and hide the form's own fields, on Airflow before 3.2."""
        return form_layout()

    def _answer(self, asked: Asked[T]) -> T:
        config = self.config()
        answer: T = config.client.call(asked.through(config.settings.api_version), budget=asked.budget)
        return answer

    async def _aanswer(self, asked: Asked[T]) -> T:
        config = await self.aconfig()
        answer: T = await config.async_client.call(asked.through(config.settings.api_version), budget=asked.budget)
        return answer


def _wrong_settings(config: ConnectionConfig) -> list[str]:
    """Say of each setting of the connection and airflow.cfg that has no effect why that is so."""
    unknown = [*unknown_settings(config.unknown, "connection"), *unknown_options()]
    return [*config.warnings, *(f"{problem.where} {problem.what}." for problem in unknown)]


def _alert_source_words(account: Account) -> list[str]:
    """Say what is set about alerts; to try the source would page somebody."""
    source, token = account.alert_source_id, account.alert_source_token
    if source and token:
        return [f"Alerts go to source {source!r}, which is not tried, for that would send one."]
    if source or token:
        return [f"Alerts cannot be sent: the alert source's {'token' if source else 'ID'} is missing."]
    return []


def _options(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in OPTIONS}


def _submission(config: ConnectionConfig, idempotency_key: str, fields: Mapping[str, Any]) -> CallSequence[Incident]:
    from airflow_incident.api.payload import create_draft
    from airflow_incident.api.submit import SubmitOptions, submission
    from airflow_incident.core.text import with_notes

    own = {name: value for name, value in fields.items() if name not in OPTIONS}
    choice: Any = config.settings.api_version
    try:
        draft = create_draft(idempotency_key=idempotency_key, **config.settings.incident_fields(), **own)
    except ConfigurationError as error:
        raise ConfigurationError(error.problems, conn_id=config.conn_id) from None
    return submission(draft, SubmitOptions(choice, with_notes, strict=True, read=endpoints.read_incident))


def _resolution(
    config: ConnectionConfig, incident_id: str, *, note: str | None, url: str | None, always: bool
) -> CallSequence[CloseResult]:
    from airflow_incident.api.closing import CloseOptions, close_sequence
    from airflow_incident.core.text import one_line

    title = one_line(note or "") or "Resolved by Airflow"
    return close_sequence(incident_id, CloseOptions(title, url, always=always, status=config.settings.resolved_status))


def _closed(became: CloseResult) -> CloseResult:
    if became.error:
        raise became.error
    return became
