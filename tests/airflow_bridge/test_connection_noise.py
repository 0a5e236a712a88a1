"""Reading our connection adds no line of Airflow's to the log of each failure."""

import asyncio
import json
import logging
import sys

import pytest

from airflow_incident.airflow_bridge.compat import BaseHook
from airflow_incident.airflow_bridge.connections import aread_connection, read_connection


@pytest.fixture(autouse=True)
def _connection(monkeypatch, caplog):
    """Define one whose type has an underscore, and whose extra has a short value; Airflow has not warned of one yet."""
    fields = {"conn_type": "incident_io", "password": "password", "extra": {"mode": "test"}}
    monkeypatch.setenv("AIRFLOW_CONN_INCIDENT_IO_DEFAULT", json.dumps(fields))
    for name, module in list(sys.modules.items()):
        if name.endswith("secrets_masker") and hasattr(module, "SecretsMasker"):
            monkeypatch.setattr(module.SecretsMasker, "_has_warned_short_secret", False, raising=False)
    caplog.set_level(logging.WARNING)


def asides(caplog):
    return [text for text in caplog.messages if "RFC3986" in text or "too short" in text]


def test_our_reading_brings_no_warning_of_airflow_s(caplog):
    for read in (read_connection, lambda conn_id: asyncio.run(aread_connection(conn_id))):
        assert json.loads(read("incident_io_default").extra) == {"mode": "test"}
    assert asides(caplog) == []


def test_what_is_not_of_our_reading_is_logged_as_ever(caplog):
    """Without us, Airflow warns; and nothing but that is kept out, and nothing once the connection is read."""
    BaseHook.get_connection("incident_io_default").get_uri()
    assert asides(caplog)
    read_connection("incident_io_default")
    logging.getLogger("airflow.sdk.definitions.connection").warning("something else")
    assert caplog.messages[-1] == "something else"
