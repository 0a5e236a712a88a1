"""A DAG file pays next to nothing for this package: modules are counted, for milliseconds depend on the machine."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from tests.airflow_versions import AIRFLOW
from tests.doors import API_KEY, Scripted

DAG_HOME = "airflow.sdk" if AIRFLOW >= (3, 0) else "airflow"
SCRIPT = """
import copy, json, pickle, sys
from {home} import DAG
DAG("x", schedule=None)
for name in [name for name in sys.modules if name.split(".")[0] == "airflow_incident"]:
    del sys.modules[name]  # where it is installed, Airflow has asked it for its provider's declaration
before = set(sys.modules)
{dag_file}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def _added(dag_file: str, settings: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Run lines of a DAG file after Airflow in a fresh process; return the modules that they load."""
    run = [sys.executable, "-c", SCRIPT.format(home=DAG_HOME, dag_file=dag_file)]
    environment = os.environ | settings
    done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=120, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=["open_incident(severity='01H')", "resolve_incident(resolve='always')"])
def callback_modules(request):
    name = request.param.partition("(")[0]
    return _added(f"from airflow_incident import {name}\n{request.param}")


def test_a_callback_adds_few_modules(callback_modules):
    """Calling open_incident() or resolve_incident() in a DAG file loads at most 8 modules of ours.

    Airflow before 3.3 loads some of its own for notifiers, 3.0 the most.
    """
    ours = [name for name in callback_modules if name.partition(".")[0] == "airflow_incident"]
    assert "airflow_incident.notifications" in ours
    assert len(ours) <= 8, ours
    assert len(callback_modules) <= 15, callback_modules


@pytest.mark.parametrize(
    "kept_out",
    [
        "api",
        "airflow_bridge.config",
        "airflow_bridge.context",
        "core.settings",
        "delivery",
        "errors",
        "hooks",
        "sandbox",
    ],
)
def test_what_sends_is_not_loaded(callback_modules, kept_out):
    """No model, no client and no template is in reach before a failure is sent."""
    rooms = tuple(f"airflow_incident.{room}" for room in (kept_out, f"{kept_out}."))
    assert not [name for name in callback_modules if name == rooms[0] or name.startswith(rooms[1])]


def test_importing_the_package_alone_loads_no_door():
    """`import airflow_incident` loads itself and its version: cluster policies make every process do it."""
    assert set(_added("import airflow_incident")) <= {"airflow_incident", "airflow_incident.constants"}


@pytest.mark.parametrize(
    "door", ["CreateIncidentOperator", "ResolveIncidentOperator", "IncidentHook", "journal_flush_dag"]
)
def test_other_doors_build_no_model(door):
    """Importing the operator, the hook or the flush DAG builds no pydantic model either."""
    added = _added(f"from airflow_incident import {door}")
    assert not {"airflow_incident.api.client", "airflow_incident.api.models", "airflow_incident.api.closing"} & set(
        added
    )


@pytest.mark.parametrize("journal", [True, False])
def test_a_failure_loads_only_what_it_needs(tmp_path, journal):
    """Nothing to look names up, to flush, to recover, to ask for anything else, or to build models."""
    report = """
from airflow_incident import open_incident
from tests.doors import task_context
open_incident()(task_context())
"""
    with Scripted() as incident_io:
        settings = {
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW_CONN_INCIDENT_IO_DEFAULT": json.dumps(
                {"conn_type": "incident_io", "host": incident_io.url, "password": API_KEY}
            ),
            "AIRFLOW__INCIDENT_IO__JOURNAL": str(journal),
        }
        added = set(_added(report, settings))
    assert len(incident_io.arrivals) == 1
    assert "airflow_incident.api.calls" in added
    api = ("body", "closing", "endpoints", "models", "names")
    delivery = ("flush", "recovery", "opened")
    needless = {
        "airflow_incident.airflow_bridge.routes",
        "airflow_incident.core.routes",
        *(f"airflow_incident.api.{name}" for name in api),
        *(f"airflow_incident.delivery.{n}" for n in delivery),
    }
    assert not needless & added


def test_the_callback_can_be_copied_and_pickled():
    """Airflow 2.11 deep-copies default_args for each DAG; a copy and a round trip keep what was asked for."""
    added = _added(
        "from airflow_incident import open_incident\n"
        "first = open_incident(severity='01H', name='{{ run_id }}', custom_fields={'01F': {'value_text': 'x'}})\n"
        "for other in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):\n"
        "    assert type(other) is type(first) and other is not first\n"
        "    assert (other.options, other.templates) == (first.options, first.templates)\n"
        "    assert other.conn_id == first.conn_id\n"
    )
    assert not [name for name in added if name.startswith("airflow_incident.api")]
