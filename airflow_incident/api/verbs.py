"""What an account can be asked, each verb declared once, for ordinary code and for coroutines. Knows no Airflow."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from airflow_incident.api import endpoints, lookups
from airflow_incident.api.calls import Call, CallSequence, PaginatedCall
from airflow_incident.api.exchange import BUDGET
from airflow_incident.errors import APIError, ConfigurationError, Problem
from airflow_incident.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence

    from airflow_incident.api.body import EditIncident, ResourcePayload
    from airflow_incident.api.endpoints import FilterMode, SortBy
    from airflow_incident.api.models import (
        Attachment,
        CustomField,
        CustomFieldOption,
        Identity,
        Incident,
        IncidentRole,
        IncidentStatus,
        IncidentTimestamp,
        IncidentType,
        IncidentUpdate,
        Member,
        Severity,
    )

T = TypeVar("T")
P = ParamSpec("P")
V = TypeVar("V", bound="Verbs")


class Asked(Frozen, Generic[T]):
    """What a verb asks for, to be answered with a T: a call, or one for each version of the API, and the seconds."""

    call: Any
    call_v2: Any
    budget: float

    def through(self, api_version: str) -> Any:
        """Choose the call; `auto` is v1 as long as that is served, then v2."""
        if self.call_v2 is None or api_version == "v1":
            return self.call
        return self.call_v2 if api_version == "v2" else CallSequence(lambda *_: _first_served(self.call, self.call_v2))


def _first_served(call: Any, call_v2: Any) -> Generator[Any, Any, Any]:
    try:
        return (yield call)
    except APIError as error:
        # v1 is gone, or only has no such incident: asking v2 as well changes nothing there.
        if error.status not in {404, 410}:
            raise
    return (yield call_v2)


@overload
def ask(call: Call[T], call_v2: Call[T] | None = None, *, budget: float) -> Asked[T]: ...
@overload
def ask(call: PaginatedCall[T], call_v2: PaginatedCall[T] | None = None, *, budget: float) -> Asked[list[T]]: ...
def ask(call: Any, call_v2: Any = None, *, budget: float) -> Asked[Any]:
    """Ask for one answer or for all pages of a list, through v2 if `call_v2` is given and the account speaks it."""
    return Asked(call, call_v2, budget)


def verb(declared: Callable[Concatenate[V, P], Asked[T]]) -> Callable[Concatenate[V, P], T]:
    """Make a method of what it asks for; it returns the answer."""

    @wraps(declared)
    def answer(self: V, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._answer(declared(self, *args, **kwargs))

    return answer


def twin(method: Callable[Concatenate[V, P], T]) -> Callable[Concatenate[V, P], Coroutine[Any, Any, T]]:
    """Make the method that does as a verb does, from a coroutine."""
    declared: Callable[Concatenate[V, P], Asked[T]] = method.__wrapped__  # type: ignore[attr-defined]  # wraps() sets it

    @wraps(declared)
    async def answer(self: V, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._aanswer(declared(self, *args, **kwargs))

    answer.__name__ = f"a{declared.__name__}"
    answer.__qualname__ = answer.__qualname__.replace(declared.__name__, answer.__name__)
    answer.__doc__ = f"Do as `{declared.__name__}` does, from a coroutine."
    return answer


class Verbs:
    """What can be asked; whoever inherits it says with which key. `budget` is the seconds for all attempts together."""

    def _answer(self, asked: Asked[T]) -> T:
        raise NotImplementedError

    async def _aanswer(self, asked: Asked[T]) -> T:
        raise NotImplementedError

    @verb
    def show_incident(self, incident_id: str, *, budget: float = BUDGET) -> Asked[Incident]:
        """Show one incident, by its ID, whichever version opened it.

        :raises NotFoundError: if there is none.
        :raises IncidentIoError: if it could not be shown.
        """
        return ask(
            endpoints.show_incident(incident_id),
            endpoints.show_incident(incident_id, api_version="v2"),
            budget=budget,
        )

    ashow_incident = twin(show_incident)

    @verb
    def list_incidents(
        self,
        *,
        status: Sequence[str] = (),
        filters: Mapping[str, Any] | None = None,
        sort_by: SortBy | None = None,
        filter_mode: FilterMode | None = None,
        budget: float = BUDGET,
    ) -> Asked[list[Incident]]:
        """List incidents over all pages.

        :param status: Only those in one of v1's statuses, like `triage`; it asks v1, and does not go with the others.
        :param filters: Filters of v2, like `{"status_category": {"one_of": ["live"]}}`; on status, status_category,
            severity, incident_type, incident_role, custom_field, mode, created_at and updated_at. Without one on mode
            there are no incidents of tests and tutorials.
        :param sort_by: `created_at_newest_first`, v2's default, or `created_at_oldest_first`.
        :param filter_mode: Whether an incident must match `all` filters, the default, or `any`.
        :raises ConfigurationError: naming every filter that cannot be used.
        :raises IncidentIoError: if they could not be listed.
        """
        v2_only = filters is not None or sort_by is not None or filter_mode is not None
        if status and v2_only:
            problem = Problem("Status", "is a word of v1; beside filters, put it into them as status_category")
            raise ConfigurationError([problem])
        if status:
            return ask(endpoints.list_incidents(status=status), budget=budget)
        call_v2 = endpoints.list_incidents_v2(filters, sort_by=sort_by, filter_mode=filter_mode)
        return ask(call_v2, budget=budget) if v2_only else ask(endpoints.list_incidents(), call_v2, budget=budget)

    alist_incidents = twin(list_incidents)

    @verb
    def edit_incident(
        self,
        incident_id: str,
        changes: EditIncident | Mapping[str, Any],
        *,
        notify_channel: bool = False,
        budget: float = BUDGET,
    ) -> Asked[Incident]:
        """Change what is given of an incident; the rest stays as it is.

        :param changes: Fields of v2's edit under their own names, like `{"incident_status_id": "01…"}`.
        :param notify_channel: Whether the incident's Slack channel is told; default no.
        :raises ConfigurationError: naming every field that cannot be used.
        :raises IncidentIoError: if it could not be changed; the key needs the role 'incident editor'.
        """
        return ask(endpoints.edit_incident(incident_id, changes, notify_channel=notify_channel), budget=budget)

    aedit_incident = twin(edit_incident)

    @verb
    def list_incident_updates(
        self, incident_id: str | None = None, *, budget: float = BUDGET
    ) -> Asked[list[IncidentUpdate]]:
        """List what was said about one incident, or about all."""
        return ask(endpoints.list_incident_updates(incident_id), budget=budget)

    alist_incident_updates = twin(list_incident_updates)

    @verb
    def create_attachment(
        self, incident_id: str, resource: ResourcePayload | Mapping[str, Any], *, budget: float = BUDGET
    ) -> Asked[Attachment]:
        """Attach a thing of another system to an incident.

        :param resource: Like `{"resource_type": "github_pull_request", "external_id": "123"}`.
        :raises ConfigurationError: naming every field that cannot be used.
        :raises IncidentIoError: if it could not be attached.
        """
        return ask(endpoints.create_attachment(incident_id, resource), budget=budget)

    acreate_attachment = twin(create_attachment)

    @verb
    def attach_link(self, incident_id: str, *, url: str, title: str, budget: float = BUDGET) -> Asked[None]:
        """Attach a link to an incident."""
        return ask(endpoints.attach_link(incident_id, url=url, title=title), budget=budget)

    aattach_link = twin(attach_link)

    @verb
    def list_attachments(
        self,
        incident_id: str | None = None,
        *,
        external_id: str | None = None,
        resource_type: str | None = None,
        budget: float = BUDGET,
    ) -> Asked[list[Attachment]]:
        """List what is attached to an incident, or where a thing of another system is attached."""
        return ask(
            endpoints.list_attachments(incident_id, external_id=external_id, resource_type=resource_type),
            budget=budget,
        )

    alist_attachments = twin(list_attachments)

    @verb
    def delete_attachment(self, attachment_id: str, *, budget: float = BUDGET) -> Asked[None]:
        """Take an attachment away from its incident."""
        return ask(endpoints.delete_attachment(attachment_id), budget=budget)

    adelete_attachment = twin(delete_attachment)

    @verb
    def list_severities(self, *, budget: float = BUDGET) -> Asked[list[Severity]]:
        """List the severities; a lower rank is less severe."""
        return ask(lookups.list_severities(), budget=budget)

    alist_severities = twin(list_severities)

    @verb
    def show_severity(self, severity_id: str, *, budget: float = BUDGET) -> Asked[Severity]:
        """Show one severity, by its ID."""
        return ask(lookups.show_severity(severity_id), budget=budget)

    ashow_severity = twin(show_severity)

    @verb
    def list_incident_types(self, *, budget: float = BUDGET) -> Asked[list[IncidentType]]:
        """List the incident types."""
        return ask(lookups.list_incident_types(), budget=budget)

    alist_incident_types = twin(list_incident_types)

    @verb
    def show_incident_type(self, incident_type_id: str, *, budget: float = BUDGET) -> Asked[IncidentType]:
        """Show one incident type, by its ID."""
        return ask(lookups.show_incident_type(incident_type_id), budget=budget)

    ashow_incident_type = twin(show_incident_type)

    @verb
    def list_incident_statuses(self, *, budget: float = BUDGET) -> Asked[list[IncidentStatus]]:
        """List the statuses with their categories."""
        return ask(lookups.list_incident_statuses(), budget=budget)

    alist_incident_statuses = twin(list_incident_statuses)

    @verb
    def show_incident_status(self, incident_status_id: str, *, budget: float = BUDGET) -> Asked[IncidentStatus]:
        """Show one status, by its ID."""
        return ask(lookups.show_incident_status(incident_status_id), budget=budget)

    ashow_incident_status = twin(show_incident_status)

    @verb
    def list_custom_fields(self, *, budget: float = BUDGET) -> Asked[list[CustomField]]:
        """List the custom fields, without their options."""
        return ask(lookups.list_custom_fields(), budget=budget)

    alist_custom_fields = twin(list_custom_fields)

    @verb
    def show_custom_field(self, custom_field_id: str, *, budget: float = BUDGET) -> Asked[CustomField]:
        """Show one custom field, by its ID."""
        return ask(lookups.show_custom_field(custom_field_id), budget=budget)

    ashow_custom_field = twin(show_custom_field)

    @verb
    def list_incident_roles(self, *, budget: float = BUDGET) -> Asked[list[IncidentRole]]:
        """List the roles that people take in incidents."""
        return ask(lookups.list_incident_roles(), budget=budget)

    alist_incident_roles = twin(list_incident_roles)

    @verb
    def show_incident_role(self, incident_role_id: str, *, budget: float = BUDGET) -> Asked[IncidentRole]:
        """Show one role, by its ID."""
        return ask(lookups.show_incident_role(incident_role_id), budget=budget)

    ashow_incident_role = twin(show_incident_role)

    @verb
    def list_custom_field_options(
        self, custom_field_id: str, *, budget: float = BUDGET
    ) -> Asked[list[CustomFieldOption]]:
        """List the options of one custom field."""
        return ask(lookups.list_custom_field_options(custom_field_id), budget=budget)

    alist_custom_field_options = twin(list_custom_field_options)

    @verb
    def list_incident_timestamps(self, *, budget: float = BUDGET) -> Asked[list[IncidentTimestamp]]:
        """List the timestamps that the account records of its incidents."""
        return ask(lookups.list_incident_timestamps(), budget=budget)

    alist_incident_timestamps = twin(list_incident_timestamps)

    @verb
    def list_users(
        self,
        *,
        email: str | None = None,
        slack_user_id: str | None = None,
        include_inactive: bool = False,
        budget: float = BUDGET,
    ) -> Asked[list[Member]]:
        """List people: all, or the one with an email address or a Slack ID.

        :param include_inactive: Whether those who have left are listed, too; default no.
        :raises IncidentIoError: if they could not be listed.
        """
        found = lookups.list_users(email=email, slack_user_id=slack_user_id, include_inactive=include_inactive)
        return ask(found, budget=budget)

    alist_users = twin(list_users)

    @verb
    def show_identity(self, *, budget: float = BUDGET) -> Asked[Identity]:
        """Show the name and the roles of the API key.

        :raises IncidentIoError: if they could not be shown.
        """
        return ask(endpoints.show_identity(), budget=budget)

    ashow_identity = twin(show_identity)
