"""A look in the journal that a success can afford: whether its run has left anything to close.

What closes it is imported only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_incident.airflow_bridge.variables import Variables, async_store
from airflow_incident.core.key import ALERT_MARK, own_keys, scope_of
from airflow_incident.delivery.driver import PATIENCE, AsyncDriver, run_all
from airflow_incident.delivery.effects import Get, StoreFailed
from airflow_incident.delivery.record import UnreadableRecordError, read_record, record_name

if TYPE_CHECKING:
    from collections.abc import Generator

    from airflow_incident.core.failure import Failure
    from airflow_incident.core.settings import Settings
    from airflow_incident.delivery.effects import Effect

    Answer = bool | StoreFailed


def look(success: Failure, settings: Settings, deployment: str) -> Answer:
    """Return whether a callback of the attempt that succeeded has left anything to settle."""
    nobody: Any = None
    return run_all(_looking(success, settings, deployment), Variables(), nobody, patience=PATIENCE)


async def alook(success: Failure, settings: Settings, deployment: str) -> Answer:
    """Async version of `look`."""
    nobody: Any = None
    driver = AsyncDriver(async_store(Variables()), nobody, seconds=PATIENCE)
    return await driver.run(_looking(success, settings, deployment))


def _looking(success: Failure, settings: Settings, deployment: str) -> Generator[Effect, Any, Answer]:
    mark = ALERT_MARK if settings.channel == "alert" else ""
    scope = scope_of(success, settings.scope)
    for key in own_keys(success, deployment=deployment, scope=scope):
        found = yield Get(record_name(success.dag_id, mark + key))
        if isinstance(found, StoreFailed):
            return found
        if isinstance(found, str) and _is_to_settle(success, mark + key, found, always=settings.resolve == "always"):
            return True
    return False


def _is_to_settle(success: Failure, key: str, text: str, *, always: bool) -> bool:
    """Return whether a recovery would act on the record in a text; what a step opened on purpose stays."""
    try:
        record = read_record(record_name(success.dag_id, key), text)
    except UnreadableRecordError:
        return False
    return record.level != "operator" and not record.is_settled(always=always)
