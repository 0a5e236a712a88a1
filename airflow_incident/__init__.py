"""Open an incident at incident.io when an Airflow DAG or task fails: at once, once, with the facts.

The public names are imported when they are first used, so that a DAG file pays for what it uses only, and so that
nothing of ours that is broken keeps Airflow, which imports this in every process, from starting.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_incident.errors import AirflowTimeoutError as AirflowTimeoutError
    from airflow_incident.errors import AmbiguousDeliveryError as AmbiguousDeliveryError
    from airflow_incident.errors import APIError as APIError
    from airflow_incident.errors import AuthenticationError as AuthenticationError
    from airflow_incident.errors import ConfigurationError as ConfigurationError
    from airflow_incident.errors import ConflictError as ConflictError
    from airflow_incident.errors import ContextError as ContextError
    from airflow_incident.errors import IncidentIoError as IncidentIoError
    from airflow_incident.errors import JournalError as JournalError
    from airflow_incident.errors import MissingConnectionError as MissingConnectionError
    from airflow_incident.errors import NotFoundError as NotFoundError
    from airflow_incident.errors import PermissionDeniedError as PermissionDeniedError
    from airflow_incident.errors import RateLimitError as RateLimitError
    from airflow_incident.errors import ServerError as ServerError
    from airflow_incident.errors import TransportError as TransportError
    from airflow_incident.errors import UnexpectedResponseError as UnexpectedResponseError
    from airflow_incident.errors import UnknownNameError as UnknownNameError
    from airflow_incident.errors import UnreadableConnectionError as UnreadableConnectionError
    from airflow_incident.errors import UnusableConnectionError as UnusableConnectionError
    from airflow_incident.errors import ValidationError as ValidationError
    from airflow_incident.flush_dag import journal_flush_dag as journal_flush_dag
    from airflow_incident.hooks import IncidentHook as IncidentHook
    from airflow_incident.notifications import IncidentNotifier as IncidentNotifier
    from airflow_incident.notifications import RecoveryNotifier as RecoveryNotifier
    from airflow_incident.notifications import open_incident as open_incident
    from airflow_incident.notifications import resolve_incident as resolve_incident
    from airflow_incident.operators import CreateIncidentOperator as CreateIncidentOperator
    from airflow_incident.operators import ResolveIncidentOperator as ResolveIncidentOperator
    from airflow_incident.sensors import IncidentClosedSensor as IncidentClosedSensor

    __version__: str

_HOMES = {
    "IncidentHook": "hooks",
    "IncidentNotifier": "notifications",
    "journal_flush_dag": "flush_dag",
    "RecoveryNotifier": "notifications",
    "open_incident": "notifications",
    "resolve_incident": "notifications",
    "CreateIncidentOperator": "operators",
    "IncidentClosedSensor": "sensors",
    "ResolveIncidentOperator": "operators",
} | dict.fromkeys(
    (
        "AirflowTimeoutError",
        "APIError",
        "AuthenticationError",
        "ConfigurationError",
        "ConflictError",
        "ContextError",
        "IncidentIoError",
        "JournalError",
        "MissingConnectionError",
        "NotFoundError",
        "PermissionDeniedError",
        "RateLimitError",
        "ServerError",
        "TransportError",
        "UnexpectedResponseError",
        "UnknownNameError",
        "UnreadableConnectionError",
        "AmbiguousDeliveryError",
        "UnusableConnectionError",
        "ValidationError",
    ),
    "errors",
)

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 -- the names of the table above


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module(f"{__name__}.constants").VERSION
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def get_provider_info() -> dict[str, Any]:
    """Describe this provider, which Airflow asks every provider for whenever it starts.

    It lets no error of a provider pass: what is broken costs our connection type, never an Airflow command.
    https://airflow.apache.org/docs/apache-airflow-providers/howto/create-custom-providers.html
    """
    try:
        from airflow_incident import provider  # what is broken must be so inside

        return provider.get_provider_info()
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- raising here would end every Airflow command
        import logging

        logging.getLogger(__name__).warning("incident.io: airflow-incident is broken: %s", readable(error))
        return {"package-name": "airflow-incident", "name": "incident.io", "description": "Broken; see Airflow's log."}


def readable(error: BaseException) -> str:
    """Read an error without what looks like a secret; where that is broken as well, by its name alone."""
    try:
        from airflow_incident.core.redaction import redact_secrets

        return redact_secrets(repr(error))[:300]
    except (Exception, SystemExit):  # noqa: BLE001 -- some have a `__repr__` that raises
        return type(error).__name__


def __dir__() -> list[str]:
    return sorted(__all__)
