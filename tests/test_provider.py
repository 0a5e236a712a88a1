"""What Airflow discovers of this provider, asked as Airflow asks."""

import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.resources import files

import jsonschema
import pytest
from packaging.version import Version

from airflow_incident.constants import VERSION
from airflow_incident.core.settings import OPTIONS, options_in
from airflow_incident.hooks import IncidentHook
from airflow_incident.provider import get_provider_info
from tests.airflow_versions import AIRFLOW
from tests.conftest import ROOT

pytestmark = pytest.mark.release

IN_FORM = {option.name for option in options_in("connection")}


@pytest.fixture(scope="module")
def airflow(airflow_db):
    """Call Airflow's command line in the tests' own Airflow; return what it prints."""

    def call(*arguments: str, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=os.environ | variables,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


def schema(name: str):
    """Return one of Airflow's own schemas."""
    return json.loads(files("airflow").joinpath(name).read_text())


def _rows(printed: str) -> list[dict[str, str]]:
    """Read what a command prints as JSON, amid what some Airflows log to standard output."""
    return json.JSONDecoder().raw_decode(printed[printed.index("[{") :])[0]


def test_the_description_is_what_airflow_expects():
    """Airflow checks each provider against its schema at start, and drops what does not pass."""
    jsonschema.validate(get_provider_info(), schema("provider_info.schema.json"))


def test_the_description_is_as_complete_as_those_of_airflows_own_providers():
    """Theirs are held to a stricter schema, with what only their releases have; every guide and module exists."""
    info, strict = get_provider_info(), schema("provider.yaml.schema.json")
    of_releases = {"state": "ready", "source-date-epoch": 0, "dependencies": []}
    jsonschema.validate(
        info | {name: value for name, value in of_releases.items() if name in strict["required"]}, strict
    )
    for kind in ("hooks", "operators", "sensors", "triggers"):
        assert [importlib.import_module(module) for row in info[kind] for module in row["python-modules"]]
    guides = [guide for row in info["integrations"] for guide in row["how-to-guide"]]
    assert guides
    assert [guide for guide in guides if not (ROOT / guide.lstrip("/")).is_file()] == []


def test_an_option_says_which_version_brought_it():
    """Which is not a later one than this."""
    (section,) = get_provider_info()["config"].values()
    added = {Version(option["version_added"]) for option in section["options"].values()}
    assert Version("0.1.0") in added
    assert max(added) <= Version(VERSION)


def test_the_form_of_older_versions_is_what_airflow_expects():
    """Before 3.2 the hook's class tells the form's layout; Airflow checks it against another schema."""
    layout = IncidentHook.get_ui_field_behaviour()
    jsonschema.validate(layout, schema("customized_form_field_behaviours.schema.json"))
    (kind,) = get_provider_info()["connection-types"]
    assert {name.replace("_", "-"): value for name, value in layout.items()} == kind["ui-field-behaviour"]


def test_the_entry_point_leads_to_the_description():
    """Airflow finds the provider by its entry point, of which there is one."""
    (found,) = [
        point for point in entry_points(group="apache_airflow_provider") if point.dist.name == "airflow-incident"
    ]
    assert found.load()() == get_provider_info()
    assert found.dist.version == get_provider_info()["versions"][0]


def test_the_form_has_the_options_of_a_connection():
    """Form fields are the table's options for connections, each once, secrets as passwords."""
    (kind,) = get_provider_info()["connection-types"]
    assert set(kind["conn-fields"]) == IN_FORM
    for name, field in kind["conn-fields"].items():
        option = OPTIONS[name]
        assert field["label"] == option.label
        assert (field["schema"].get("format") == "password") is option.secret
        assert tuple(field["schema"].get("enum", ())) == option.choices


def test_every_field_of_the_form_may_stay_empty():
    """The UI asks for every field that may not be null."""
    (kind,) = get_provider_info()["connection-types"]
    assert all("null" in field["schema"]["type"] for field in kind["conn-fields"].values())


def test_every_option_of_the_configuration_has_a_description():
    """`airflow config list` is where people look for options."""
    (section,) = get_provider_info()["config"].values()
    assert set(section["options"]) == {option.name for option in options_in("config")}
    assert all(option["description"] for option in section["options"].values())


def test_airflow_lists_the_provider(airflow):
    """The command line knows the provider and all that it registers."""
    (described,) = [
        row for row in _rows(airflow("providers", "list", "-o", "json")) if row["package_name"] == "airflow-incident"
    ]
    assert described["version"] == get_provider_info()["versions"][0]
    (hook,) = [
        row for row in _rows(airflow("providers", "hooks", "-o", "json")) if row["connection_type"] == "incident_io"
    ]
    assert hook["class"] == "airflow_incident.hooks.IncidentHook"
    assert hook["conn_id_attribute_name"] == "conn_id"
    assert '"airflow_incident.notifications.IncidentNotifier"' in airflow("providers", "notifications", "-o", "json")
    assert '"airflow_incident.links.IncidentLink"' in airflow("providers", "links", "-o", "json")


@pytest.mark.skipif((3, 0) <= AIRFLOW < (3, 2), reason="the command shows nothing there; the UI asks the API server")
def test_airflow_shows_the_form(airflow):
    """The connection form has a field for each option."""
    rows = _rows(airflow("providers", "widgets", "-o", "json"))
    prefix = "extra__incident_io__"
    ours = {row["connection_parameter_name"] for row in rows}
    assert {name.removeprefix(prefix) for name in ours if name.startswith(prefix)} == IN_FORM


def test_airflow_lists_the_options(airflow):
    """`airflow config list` shows each option, with its help right above it."""
    out = airflow("config", "list", "--section", "incident_io", "--include-descriptions", "--defaults")
    assert "[incident_io]" in out
    for option in options_in("config"):
        (block,) = [block for block in out.split("\n\n") if f"\n# {option.name} = " in f"{block} "]
        assert f"# {option.help}\n" in block


def test_a_connection_added_by_the_command_line_works(airflow, sandbox):
    """What the README says first: `airflow connections add`, then test it."""
    conn_id = "incident_by_hand"
    fields = ["--conn-host", sandbox.url, "--conn-password", sandbox.api_key]
    airflow("connections", "add", conn_id, "--conn-type", "incident_io", *fields)
    (row,) = _rows(airflow("connections", "get", conn_id, "-o", "json"))
    assert row["conn_type"] == "incident_io"
    out = airflow("connections", "test", conn_id, AIRFLOW__CORE__TEST_CONNECTION="Enabled")
    assert "Connection success!" in out
    assert [seen.path for seen in sandbox.requests] == ["/v1/identity"]


@pytest.mark.parametrize("extra", [None, '{"severity": "01SEV", "proxy": "http://u:p@127.0.0.1:3128"}'])
def test_a_connection_survives_the_form_of_a_uri(monkeypatch, extra):
    """Airflow writes connections as URIs, with a hyphen for the underscore; they mean the same."""
    from airflow.models.connection import Connection

    host = "http://127.0.0.1:8910/mock"
    connection = Connection("x", conn_type="incident_io", host=host, password="a-key/with+signs=", extra=extra)
    monkeypatch.setenv("AIRFLOW_CONN_BY_URI", connection.get_uri())
    config = IncidentHook("by_uri").config()
    assert config.account.base_url == host
    assert config.account.api_key == "a-key/with+signs="
    assert config.settings.severity == ("01SEV" if extra else None)


@pytest.mark.parametrize(
    ("uri", "base_url"),
    [
        ("incident-io://:a-key@", "https://api.incident.io"),
        ("incident-io://:a-key@api.example.com", "https://api.example.com"),
        ("incident-io://:a-key@127.0.0.1:8910/http", "http://127.0.0.1:8910"),
        ("incident-io://http://:a-key@127.0.0.1:8910", "http://127.0.0.1:8910"),
    ],
)
def test_a_uri_written_by_hand_works(monkeypatch, uri, base_url):
    """The shortest way to define a connection is a URI in the environment."""
    monkeypatch.setenv("AIRFLOW_CONN_BY_URI", uri)
    account = IncidentHook("by_uri").config().account
    assert (account.base_url, account.api_key) == (base_url, "a-key")
