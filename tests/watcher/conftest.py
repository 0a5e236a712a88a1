"""An Airflow whose database has the DAGs of these tests, and in which nothing has happened yet."""

import pytest

from tests.airflow_versions import BASE_URL
from tests.watcher import installation


@pytest.fixture(scope="session")
def dags(airflow_db, tmp_path_factory):
    """Install the DAGs once."""
    installation.install_dags(tmp_path_factory.mktemp("watched") / "dags")


@pytest.fixture
def watched(dags, connected, monkeypatch, caplog, brisk, alone):
    """Give the watcher an Airflow, turned on an hour ago, with all that it does; return the sandbox."""
    for name in ("journal", "auto_open", "auto_resolve", "import_errors"):
        monkeypatch.setenv(f"AIRFLOW__INCIDENT_IO__{name.upper()}", "True")
    from airflow.configuration import conf

    # What another process writes is to be read here.
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", conf.get("core", "fernet_key"))
    monkeypatch.setenv(BASE_URL, "https://airflow.example.com")
    installation.clear_all()
    installation.turn_on()
    yield connected
    installation.clear_all()
