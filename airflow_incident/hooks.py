"""The hook: the API of incident.io, called with the key of an Airflow connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from airflow_incident.airflow_bridge.compat import BaseHook
from airflow_incident.airflow_bridge.config import aread_config, examine_config, read_config, unknown_options
from airflow_incident.api import endpoints
from airflow_incident.api.calls import either_version
from airflow_incident.constants import CONN_TYPE, DEFAULT_CONN_ID
from airflow_incident.core.settings import OPTIONS, unknown_settings
from airflow_incident.core.timing import BUDGET, TEST_BUDGET
from airflow_incident.errors import ConfigurationError, IncidentIoError, Problem
from airflow_incident.provider import form_fields, form_layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from airflow_incident.airflow_bridge.config import AirflowConfig, ConnectionConfig
    from airflow_incident.api.body import EditIncident, IncidentFields
    from airflow_incident.api.calls import Call, CallSequence, PaginatedCall
    from airflow_incident.api.client import Client
    from airflow_incident.api.closing import CloseResult
    from airflow_incident.api.endpoints import FilterMode, SortBy
    from airflow_incident.api.models import Identity, Incident
    from airflow_incident.core.account import Account

T = TypeVar("T")


NEEDED_ROLE = "incident_creator"
HELPFUL_ROLES = {
    "viewer": "looking up names, showing and listing incidents, or closing those of runs that recovered",
    "incident_editor": "closing incidents of runs that recovered, or attaching links",
}
"""What a key without a role cannot do. https://docs.incident.io/api-reference/introduction"""
_KEYLESS = 'There is no API key, so nothing was asked of incident.io and only channel="alert" can be used.'


class IncidentHook(BaseHook):
    """Talk to incident.io with the key of an Airflow connection.

    Incidents have methods of their own; every other endpoint is reached by `call`. Each method that sends something has
    an async version with an `a` before its name, ends within `budget` seconds with all its retries and pages, and
    raises an IncidentIoError if it fails.

    :param conn_id: The connection, of type `incident_io`. Default: `incident_io_default`.
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
        """Async version of `config`."""
        return await aread_config(self.conn_id, airflow_config, **arguments)

    def get_conn(self) -> Client:
        """Return the client of the connection's account.

        :raises ConfigurationError: if the connection cannot be used.
        """
        return self.config().client

    @overload
    def call(self, call: Call[T] | CallSequence[T], *, budget: float = BUDGET) -> T: ...
    @overload
    def call(self, call: PaginatedCall[T], *, budget: float = BUDGET) -> list[T]: ...
    def call(self, call: Any, *, budget: float = BUDGET) -> Any:
        """Call any endpoint, like `hook.call(endpoints.list_severities())`; a list is returned with all its pages.

        :param call: What a function of `airflow_incident.api.endpoints` has built.
        :param budget: Seconds for all attempts and pages together.
        :raises ConfigurationError: if the connection cannot be used.
        :raises IncidentIoError: if the call failed.
        """
        return self.config().client.call(call, budget=budget)

    @overload
    async def acall(self, call: Call[T] | CallSequence[T], *, budget: float = BUDGET) -> T: ...
    @overload
    async def acall(self, call: PaginatedCall[T], *, budget: float = BUDGET) -> list[T]: ...
    async def acall(self, call: Any, *, budget: float = BUDGET) -> Any:
        """Async version of `call`."""
        config = await self.aconfig()
        return await config.async_client.call(call, budget=budget)

    def create_incident(
        self, *, idempotency_key: str, budget: float = BUDGET, **fields: Unpack[IncidentFields]
    ) -> Incident:
        """Open an incident, or get the one that the key opened before.

        :param idempotency_key: Unique per incident; the same key never opens two.
        :param budget: Seconds for all attempts together.
        :param fields: `name`, `summary`, the options that say what an incident looks like, and
            other fields of the create; the connection and airflow.cfg stand in for options that are not given.
        :raises ConfigurationError: naming every field that cannot be used.
        :raises IncidentIoError: if the incident could not be opened.
        """
        config = self.config(**_options(fields))
        return config.client.call(_submission(config, idempotency_key, fields), budget=budget)

    async def acreate_incident(
        self, *, idempotency_key: str, budget: float = BUDGET, **fields: Unpack[IncidentFields]
    ) -> Incident:
        """Async version of `create_incident`."""
        config = await self.aconfig(**_options(fields))
        return await config.async_client.call(_submission(config, idempotency_key, fields), budget=budget)

    def show_incident(self, incident_id: str, *, budget: float = BUDGET) -> Incident:
        """Show one incident, by its ID, whichever version of the API opened it.

        :param incident_id: ID of the incident.
        :param budget: Seconds for all attempts together.
        :raises NotFoundError: if there is none.
        :raises IncidentIoError: if it could not be shown.
        """
        incident: Incident = self._call_either(*_show(incident_id), budget)
        return incident

    async def ashow_incident(self, incident_id: str, *, budget: float = BUDGET) -> Incident:
        """Async version of `show_incident`."""
        incident: Incident = await self._acall_either(*_show(incident_id), budget)
        return incident

    def list_incidents(
        self,
        *,
        status: Sequence[str] = (),
        filters: Mapping[str, Any] | None = None,
        sort_by: SortBy | None = None,
        filter_mode: FilterMode | None = None,
        budget: float = BUDGET,
    ) -> list[Incident]:
        """List incidents over all pages.

        :param status: Only those in one of v1's statuses, like `triage`; it asks v1, and does not go with the others.
        :param filters: Filters of v2, like `{"status_category": {"one_of": ["live"]}}`; on status, status_category,
            severity, incident_type, incident_role, custom_field, mode, created_at and updated_at. Without one on mode
            there are no incidents of tests and tutorials.
        :param sort_by: `created_at_newest_first`, v2's default, or `created_at_oldest_first`.
        :param filter_mode: Whether an incident must match `all` filters, the default, or `any`.
        :param budget: Seconds for all pages together.
        :raises ConfigurationError: naming every filter that cannot be used.
        :raises IncidentIoError: if they could not be listed.
        """
        incidents: list[Incident] = self._call_either(*_list(status, filters, sort_by, filter_mode), budget)
        return incidents

    async def alist_incidents(
        self,
        *,
        status: Sequence[str] = (),
        filters: Mapping[str, Any] | None = None,
        sort_by: SortBy | None = None,
        filter_mode: FilterMode | None = None,
        budget: float = BUDGET,
    ) -> list[Incident]:
        """Async version of `list_incidents`."""
        incidents: list[Incident] = await self._acall_either(*_list(status, filters, sort_by, filter_mode), budget)
        return incidents

    def edit_incident(
        self,
        incident_id: str,
        changes: EditIncident | Mapping[str, Any],
        *,
        notify_channel: bool = False,
        budget: float = BUDGET,
    ) -> Incident:
        """Change what is given of an incident; the rest stays as it is.

        :param incident_id: ID of the incident.
        :param changes: Fields of v2's edit under their own names, like `{"incident_status_id": "01…"}`.
        :param notify_channel: Whether a message goes to the incident's Slack channel.
        :param budget: Seconds for all attempts together.
        :raises ConfigurationError: naming every field that cannot be used.
        :raises IncidentIoError: if it could not be changed; the key needs the role 'incident editor'.
        """
        return self.call(endpoints.edit_incident(incident_id, changes, notify_channel=notify_channel), budget=budget)

    async def aedit_incident(
        self,
        incident_id: str,
        changes: EditIncident | Mapping[str, Any],
        *,
        notify_channel: bool = False,
        budget: float = BUDGET,
    ) -> Incident:
        """Async version of `edit_incident`."""
        call = endpoints.edit_incident(incident_id, changes, notify_channel=notify_channel)
        return await self.acall(call, budget=budget)

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

        :param incident_id: ID of the incident.
        :param status: Name or ID of the status to move to. Default: `resolved_status` of the connection or of
            airflow.cfg, then the account's first closed status.
        :param note: Title of the link that is attached.
        :param url: Address of that link; without it, none is attached.
        :param always: Whether an incident is closed that a person has claimed.
        :param budget: Seconds for all requests together.
        :returns: What became of it: its `kind` is `closed`, `already_closed` (it was closed before) or `claimed`.
        :raises NotFoundError: if there is no such incident.
        :raises IncidentIoError: if it could not be closed.
        """
        config = self.config(resolved_status=status)
        sequence = _close_sequence(config, incident_id, note=note, url=url, always=always)
        return _closed(config.client.call(sequence, budget=budget))

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
        sequence = _close_sequence(config, incident_id, note=note, url=url, always=always)
        return _closed(await config.async_client.call(sequence, budget=budget))

    def show_identity(self, *, budget: float = BUDGET) -> Identity:
        """Show the name and the roles of the API key.

        :param budget: Seconds for all attempts together.
        :raises IncidentIoError: if they could not be shown.
        """
        return self.call(endpoints.show_identity(), budget=budget)

    async def ashow_identity(self, *, budget: float = BUDGET) -> Identity:
        """Async version of `show_identity`."""
        return await self.acall(endpoints.show_identity(), budget=budget)

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

    def _call_either(self, v1: Any, v2: Any, budget: float) -> Any:
        config = self.config()
        return config.client.call(either_version(config.settings.api_version, v1, v2), budget=budget)

    async def _acall_either(self, v1: Any, v2: Any, budget: float) -> Any:
        config = await self.aconfig()
        return await config.async_client.call(either_version(config.settings.api_version, v1, v2), budget=budget)


def _show(incident_id: str) -> tuple[Any, Any]:
    """Build the call for each version of the API."""
    return endpoints.show_incident(incident_id), endpoints.show_incident(incident_id, api_version="v2")


def _list(
    status: Sequence[str],
    filters: Mapping[str, Any] | None,
    sort_by: SortBy | None,
    filter_mode: FilterMode | None,
) -> tuple[Any, Any]:
    """Build the call for each version of the API; the same for both where only one of them knows what is asked."""
    v2_only = filters is not None or sort_by is not None or filter_mode is not None
    if status and v2_only:
        problem = Problem("Status", "is a word of v1; beside filters, put it into them as status_category")
        raise ConfigurationError([problem])
    v1 = endpoints.list_incidents(status=status)
    v2 = endpoints.list_incidents_v2(filters, sort_by=sort_by, filter_mode=filter_mode)
    if status:
        return v1, v1
    return (v2, v2) if v2_only else (v1, v2)


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
    from airflow_incident.core.text_edits import with_notes

    own = {name: value for name, value in fields.items() if name not in OPTIONS}
    choice: Any = config.settings.api_version
    try:
        draft = create_draft(idempotency_key=idempotency_key, **config.settings.incident_fields(), **own)
    except ConfigurationError as error:
        raise ConfigurationError(error.problems, conn_id=config.conn_id) from None
    return submission(draft, SubmitOptions(choice, with_notes, strict=True, read=endpoints.read_incident))


def _close_sequence(
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
