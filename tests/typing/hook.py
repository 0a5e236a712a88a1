"""What an editor and mypy know of the hook's methods for incidents, sync and async; nothing here runs."""

from typing import assert_type

from airflow_incident import IncidentHook
from airflow_incident.api.closing import CloseResult
from airflow_incident.api.models import Identity, Incident

hook = IncidentHook()
assert_type(IncidentHook("incident_io_finance"), IncidentHook)
assert_type(hook.create_incident(idempotency_key="orders", name="Orders are late", severity="Major"), Incident)
assert_type(hook.show_incident("01H", budget=5), Incident)
assert_type(hook.list_incidents(), list[Incident])
assert_type(hook.list_incidents(filters={"status_category": {"one_of": ["live"]}}), list[Incident])
assert_type(hook.edit_incident("01H", {"name": "Orders are lost"}), Incident)
assert_type(hook.resolve_incident("01H", status="Closed", note="Reloaded", always=True), CloseResult)
assert_type(hook.show_identity(), Identity)
assert_type(hook.test_connection(), tuple[bool, str])

hook.create_incident(name="Orders are late")  # type: ignore[call-arg]  # without a key it might open two
hook.show_incident()  # type: ignore[call-arg]
hook.show_incident(1)  # type: ignore[arg-type]
hook.list_incidents(filter={})  # type: ignore[call-arg]
hook.edit_incident("01H", "Orders are lost")  # type: ignore[arg-type]
hook.resolve_incident("01H", stauts="Closed")  # type: ignore[call-arg]
hook.resolve_incident("01H", "Closed")  # type: ignore[call-arg]  # by name only
hook.show_incidents("01H")  # type: ignore[attr-defined]


async def from_a_coroutine() -> None:
    """Each async method has its own types, not only a coroutine's."""
    assert_type(await hook.acreate_incident(idempotency_key="orders", name="Orders are late"), Incident)
    assert_type(await hook.ashow_incident("01H"), Incident)
    assert_type(await hook.alist_incidents(), list[Incident])
    assert_type(await hook.aedit_incident("01H", {"name": "Orders are lost"}), Incident)
    assert_type(await hook.aresolve_incident("01H", note="Reloaded"), CloseResult)
    assert_type(await hook.ashow_identity(), Identity)
    await hook.ashow_incident(1)  # type: ignore[arg-type]
    await hook.aresolve_incident("01H", stauts="Closed")  # type: ignore[call-arg]
