"""Airflow's names are found wherever this Airflow has them."""

import ast
from pathlib import Path

import pytest
from airflow.providers.common.compat import sdk

import airflow_incident
from airflow_incident.airflow_bridge import compat
from tools import broken


@pytest.mark.parametrize(
    "name", sorted(compat._HOMES.keys() - {"DagBag"})
)  # which is for Airflow's own commands, and ours
def test_each_name_is_what_airflow_s_own_bridge_calls_so(name):
    """That one keeps up with Airflow, in newer versions than some Airflows bring."""
    assert getattr(compat, name) is getattr(sdk, name)


def test_a_type_checker_knows_the_names_that_are_found():
    """What one of both alone knew would fail when it runs, or be unknown while it is written."""
    tree = ast.parse(Path(compat.__file__).read_text())
    (typed,) = [node for node in tree.body if isinstance(node, ast.If)]
    names = {alias.name for line in typed.body for alias in line.names}
    assert names | {"Stats"} == set(compat._HOMES)


def test_no_other_file_knows_where_airflow_s_internals_are():
    """An Airflow that moves its channel, or what travels on it, changes one file."""
    package = Path(airflow_incident.__file__).parent
    inside = ("sdk.execution_time", "SUPERVISOR_COMMS", "dag_processing", "secrets_masker", "secrets.cache")
    knowing = {path.name for path in package.rglob("*.py") if any(name in path.read_text() for name in inside)}
    assert knowing == {"compat.py"}


def test_a_name_that_is_nowhere_is_an_attribute_error():
    with pytest.raises(AttributeError, match="BaseHooks"):
        _ = compat.BaseHooks
    with pytest.raises(ImportError, match="BaseHooks"):
        from airflow_incident.airflow_bridge.compat import BaseHooks  # noqa: F401 -- it is not there


@pytest.mark.parametrize("broken", broken.LINES, ids=lambda broken: f"{broken.file}: {broken.line}")
def test_a_line_to_break_stands_where_it_is_looked_for(broken):
    """`make test-broken` breaks each of these lines; one that has moved is broken nowhere."""
    package = Path(airflow_incident.__file__).parent
    assert (package / broken.file).read_text().count(broken.line) == 1
