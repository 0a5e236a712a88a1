"""The public surface."""

import subprocess
import sys

import pytest

import airflow_incident

pytestmark = pytest.mark.release

NAMES = {
    "IncidentHook", "CreateIncidentOperator", "ResolveIncidentOperator", "IncidentClosedSensor", "IncidentNotifier",
    "RecoveryNotifier", "journal_flush_dag", "open_incident", "resolve_incident", "__version__",
    "AirflowTimeoutError", "APIError", "AuthenticationError", "ConfigurationError", "ConflictError", "ContextError",
    "IncidentIoError", "JournalError", "MissingConnectionError", "NotFoundError", "PermissionDeniedError",
    "RateLimitError", "ServerError", "TransportError", "UnexpectedResponseError", "UnknownNameError",
    "UnreadableConnectionError", "AmbiguousDeliveryError", "UnusableConnectionError", "ValidationError",
}  # fmt: skip


def test_the_public_names_are_these():
    """A name is added or removed on purpose only."""
    assert set(airflow_incident.__all__) == NAMES
    assert set(dir(airflow_incident)) >= NAMES
    for name in NAMES:
        assert getattr(airflow_incident, name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="open_incidents"):
        _ = airflow_incident.open_incidents


def test_the_sandbox_knows_nothing_of_us():
    """One misreading of the API must not hide on both sides of the wire."""
    code = (
        "import sys, airflow_incident.sandbox.app; print(*(m for m in sys.modules if m.startswith('airflow_incident')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    package = {"airflow_incident", "airflow_incident.constants"}
    assert "airflow_incident.sandbox.app" in loaded
    assert all(name in package or name.startswith("airflow_incident.sandbox") for name in loaded)


def test_the_version_is_the_distribution_s():
    from importlib.metadata import version

    assert airflow_incident.__version__ == version("airflow-incident")
