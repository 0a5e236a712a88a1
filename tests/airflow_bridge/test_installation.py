"""What Airflow's configuration says."""

import pytest

from airflow_incident.airflow_bridge.compat import conf
from airflow_incident.airflow_bridge.config import AirflowConfig, read_airflow_config
from tests.airflow_versions import AIRFLOW, BASE_URL, BATCH_TIMEOUT, PAGES

pytestmark = pytest.mark.release


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        (None, None),
        ("", None),
        ("http://localhost:8080", None),
        ("http://127.0.0.1/airflow", None),
        ("not a url", None),
        ("https://airflow.example.com", "airflow.example.com"),
        ("https://Airflow.Example.com:8443/team-a/", "airflow.example.com:8443/team-a"),
        ("https://user:pw@airflow.example.com/", "airflow.example.com"),
    ],
)
def test_an_installation_is_named_by_its_public_address(base_url, name):
    """Port and path belong to it, credentials do not; what only this machine knows names nothing."""
    assert AirflowConfig(base_url=base_url).name == name


def test_one_without_a_name_says_where_its_address_is_set():
    """The section was renamed with Airflow 3."""
    assert "a public [webserver] base_url, or" in AirflowConfig(major=2).unnamed_note
    assert "a public [api] base_url, or" in AirflowConfig(major=3).unnamed_note


@pytest.mark.parametrize(("overtime", "seconds"), [(20, 12.0), (60, 12.0), (10, 4.0), (3, 1.0)])
def test_a_report_leaves_time_to_airflow(monkeypatch, overtime, seconds):
    """Never more than twelve seconds, six less than the overtime, and always a try."""
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", str(overtime))
    assert read_airflow_config().report_seconds == seconds


def test_airflow_cfg_is_read_from_where_it_is_set(monkeypatch):
    """Address, limits and our own section; what is not set is not there."""
    monkeypatch.setenv(BASE_URL, "https://airflow.example.com")
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "10")
    monkeypatch.setenv(BATCH_TIMEOUT, "30")
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__SEVERITY", "01MAJOR")
    airflow_config = read_airflow_config()
    assert airflow_config.base_url == "https://airflow.example.com"
    assert airflow_config.major == AIRFLOW[0]
    assert airflow_config.base_url_option == f"[{PAGES}] base_url"
    assert airflow_config.report_seconds == 4.0
    assert airflow_config.batch_seconds == 15.0
    assert airflow_config.config.items() >= {"deployment": "tests", "severity": "01MAJOR"}.items()
    assert airflow_config.enabled


def test_what_nobody_sets_is_not_asked_for(monkeypatch):
    """Airflow knows defaults of ours by its own list of providers; they are not set by anybody."""
    monkeypatch.delenv("AIRFLOW__INCIDENT_IO__JOURNAL", raising=False)
    assert "journal" not in read_airflow_config().config


def test_an_option_may_stand_in_the_file_or_come_from_a_command(monkeypatch):
    """As any option may that Airflow knows for a secret: `proxy_cmd` says where to get `proxy`."""
    by_command = ("incident_io", "proxy") in conf.sensitive_config_values
    file = {"severity": "01FILE", "proxy_cmd": "echo http://proxy.example.com:3128", "scope": "task"}
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__SCOPE", "dag")
    conf.read_dict({"incident_io": file})
    try:
        found = read_airflow_config().config
    finally:
        conf.remove_section("incident_io")
    assert (found["severity"], found["scope"]) == ("01FILE", "dag")
    assert found.get("proxy", "").strip() == ("http://proxy.example.com:3128" if by_command else "")
    assert read_airflow_config().config.get("severity") is None


@pytest.mark.parametrize(("value", "enabled"), [("false", False), ("True", True), ("0", False), ("perhaps", True)])
def test_incidents_can_be_turned_off(monkeypatch, value, enabled):
    """A value that cannot be read silences nothing."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ENABLED", value)
    assert read_airflow_config().enabled is enabled
