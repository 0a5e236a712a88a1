"""Where options are set, what goes first, and what a wrong one says: once, by its label, at the first use."""

import asyncio
import itertools
import json
import logging
import re
import time
from functools import partial
from types import MappingProxyType

import pytest
import trustme

from airflow_incident import CreateIncidentOperator, IncidentHook, open_incident
from airflow_incident.airflow_bridge.compat import BaseHook, conf
from airflow_incident.airflow_bridge.config import read_airflow_config, read_config, read_routed
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.core.settings import OPTIONS, options_in, read_value
from airflow_incident.errors import ConfigurationError, MissingConnectionError
from airflow_incident.sandbox.server import Sandbox
from tests.airflow_versions import AIRFLOW, BASE_URL, BATCH_TIMEOUT
from tests.doors import API_KEY, Scripted, call_async, call_sync, dag_context, listen, report, task_context

pytestmark = pytest.mark.release

EVERY_DOOR = pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
SECRET = "hunter2-Xy9"


def ids_of(kind):
    """Three IDs, which nobody looks up."""
    return tuple(f"01{kind}{n:021}" for n in range(3))


ONE = "01F00000000000000000000001"
VALUES = {
    # name: values for argument, connection, config; those of rules are below
    "enabled": (None, None, "False"),
    "deployment": ("from-argument", "from-connection", "from-config"),
    "scope": ("task", None, "task_instance"),
    "severity": ids_of("SEV"),
    "incident_type": ids_of("TYP"),
    "channel": ("alert", None, None),
    "alert_source_id": (None, "source-connection", "source-config"),
    "alert_source_token": (None, "token-connection-1", None),
    "mode": ("test", "real", "test"),
    "visibility": ("private", "public", "private"),
    "status": ("fixing", None, None),
    "custom_fields": (
        {ONE: {"value_text": "1"}},
        f'{{"{ONE}": {{"value_text": "2"}}}}',
        f'{{"{ONE}": [{{"value_text": "3"}}]}}',
    ),
    "roles": ({ONE: "a@example.com"}, f'{{"{ONE}": "b@example.com"}}', f'{{"{ONE}": "U12345678"}}'),
    "slack_team_id": ("T-argument", "T-connection", "T-config"),
    "runbook": ("https://wiki.test/argument", "https://wiki.test/connection", "https://wiki.test/config"),
    "log_lines": (7, None, "8"),
    "refail": ("new", None, "new"),
    "resolve": ("always", None, "always"),
    "resolved_status": ("from-argument", "from-connection", "from-config"),
    "exception_detail": ("traceback", None, "type"),
    "journal": (None, None, "False"),
    "auto_open": (None, None, "True"),
    "auto_resolve": (None, None, "True"),
    "import_errors": (None, None, "True"),
    "import_error_minutes": (None, None, "10"),
    "auto_include": (None, None, "sales_*, finance"),
    "auto_exclude": (None, None, "*_draft"),
    "routes_file": (None, None, "/nowhere/routes.yaml"),
    "storm_limit": (None, "7", "8"),
    "storm_limit_per_dag": (None, "5", "6"),
    "api_version": (None, "v1", "v2"),
    "proxy": (None, "http://connection.test:1", "http://config.test:2"),
    "ca_bundle": (None, "/from/connection.pem", "/from/config.pem"),
}
ROUTES = {
    "enabled": True,
    "deployment": "from-rule",
    "scope": "dag",
    "severity": f"01SEV{9:021}",
    "incident_type": f"01TYP{9:021}",
    "channel": "incident",
    "mode": "real",
    "visibility": "public",
    "status": "investigating",
    "custom_fields": {ONE: {"value_text": "4"}},
    "roles": {ONE: "c@example.com"},
    "slack_team_id": "T-rule",
    "runbook": "https://wiki.test/rule",
    "log_lines": 9,
    "refail": "join",
    "resolve": "if_unclaimed",
    "resolved_status": "from-rule",
    "exception_detail": "message",
}
PLACES = ("argument", "route", "connection", "config")
BY_PLACE = {
    name: {"argument": of_dag, "route": ROUTES.get(name), "connection": of_connection, "config": of_config}
    for name, (of_dag, of_connection, of_config) in VALUES.items()
}
SENT_AS = {"severity": "severity_id", "incident_type": "incident_type_id", "mode": "mode", "status": "status"} | {
    "visibility": "visibility", "slack_team_id": "slack_team_id", "custom_fields": "custom_field_entries",
    "roles": "incident_role_assignments",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _unspent():

    PROCESS.reset()


@pytest.fixture(scope="module")
def served():
    with Sandbox(api_key=API_KEY, rate_limit=1_000_000) as box:
        yield box


@pytest.fixture
def box(served):
    served.clear()
    return served


@pytest.fixture
def link(connect):
    """Define the default connection with the key that must never be seen."""

    def define(host, extra=None, **fields):
        connect(host, **({"password": API_KEY} | fields | ({"extra": extra} if extra is not None else {})))

    return define


def check_wrong(call, *labels, options=None):
    """Fail unless the callback says in one error line all that is wrong, and what to mend."""
    heard, took = report(call=call, **(options or {}))
    line = heard.error
    assert "NO incident was opened for DAG orders, run run-1" in line
    for label in labels:
        assert f"{label}: " in line, line
    assert "doctor --conn-id incident_io_default" in line
    assert SECRET not in line
    assert took < 2
    with pytest.raises(ConfigurationError) as raised:
        IncidentHook().config(**(options or {})).client.close()
    assert SECRET not in f"{raised.value!r} {raised.value}"
    assert API_KEY not in f"{raised.value!r} {raised.value}"
    return line


# Wrong ones


WRONG = {
    "no key": ({"password": None}, "API key"),
    "an empty key": ({"password": "  "}, "API key"),
    "a key with a line break inside": ({"password": f"{API_KEY}\n{SECRET}"}, "API key"),
    "a key with a space": ({"password": f"{API_KEY} {SECRET}"}, "API key"),
    "a key with other letters": ({"password": f"{API_KEY}é{SECRET}"}, "API key"),
    "a key with a null": ({"password": f"{API_KEY}\x00{SECRET}"}, "API key"),
    "http to a remote host": ({"host": "http://api.incident.io"}, "Base URL"),
    "http to a host that looks local": ({"host": "http://127.0.0.1.evil.test"}, "Base URL"),
    "http by schema": ({"host": "api.incident.io", "schema": "http"}, "Base URL"),
    "another scheme": ({"host": "ftp://api.incident.io"}, "Base URL"),
    "a user in the host": ({"host": f"https://me:{SECRET}@api.incident.io"}, "Base URL"),
    "a query in the host": ({"host": f"https://api.incident.io/?key={SECRET}"}, "Base URL"),
    "a fragment in the host": ({"host": "https://api.incident.io/#x"}, "Base URL"),
    "half an address": ({"host": "https://["}, "Base URL"),
    "a port out of range": ({"host": "https://api.incident.io:99999"}, "Base URL"),
    "a port that is no number": ({"host": "https://api.incident.io:https"}, "Base URL"),
    "a space in the host": ({"host": "https://api incident.io"}, "Base URL"),
    "a line break in the host": ({"host": "https://api.incident.io/\r\nX-Key: 1"}, "Base URL"),
    "no host": ({"host": "https:///v1"}, "Base URL"),
    "another type": ({"conn_type": "http"}, "Connection type"),
    "a proxy of another scheme": ({"extra": {"proxy": f"socks9://me:{SECRET}@proxy.test"}}, "Proxy"),
    "half a proxy": ({"host": "https://api.incident.io", "extra": {"proxy": f"http://me:{SECRET}@["}}, "Proxy"),
    "a proxy without a host": ({"host": "https://api.incident.io", "extra": {"proxy": "http://"}}, "Proxy"),
    "a proxy with a bad port": (
        {"host": "https://api.incident.io", "extra": {"proxy": f"http://me:{SECRET}@proxy.test:port"}},
        "Proxy",
    ),
    "a missing CA bundle": ({"host": "https://api.incident.io", "extra": {"ca_bundle": "/no/such.pem"}}, "CA bundle"),
    "a folder as CA bundle": ({"host": "https://api.incident.io", "extra": {"ca_bundle": "/"}}, "CA bundle"),
    "a CA bundle that is none": ({"host": "https://api.incident.io", "extra": {"ca_bundle": __file__}}, "CA bundle"),
    "a null in the CA bundle": ({"host": "https://api.incident.io", "extra": {"ca_bundle": "a\x00b"}}, "CA bundle"),
}
UNREADABLE = {
    "malformed extra": ({"extra": f'{{"severity": "{SECRET}"'}, "Extra"),
    "extra that is a list": ({"extra": '["severity"]'}, "Extra"),
}
if not (3, 0) <= AIRFLOW < (3, 2):  # which drop such a connection as if it were not there
    WRONG |= UNREADABLE


@pytest.fixture
def no_network(monkeypatch):
    """Fail when a name is looked up."""
    import socket

    def refuse(*args, **_):
        raise AssertionError(f"nothing may be asked for: {args}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


LEFT_OUT = {
    "an unknown api_version": ({"api_version": "v9"}, "API version"),
    "an unknown mode": ({"mode": "tset"}, "Mode"),
    "an unknown visibility": ({"visibility": "secret"}, "Visibility"),
    "custom fields that are no JSON": ({"custom_fields": "{team"}, "Custom fields"),
    "custom fields that are a list": ({"custom_fields": "[1]"}, "Custom fields"),
    "a custom field of no kind": ({"custom_fields": {"team": {"value_txt": "Product"}}}, "Custom fields"),
    "a role without a person": ({"roles": {"lead": ""}}, "Roles"),
}


@EVERY_DOOR
@pytest.mark.parametrize("kind", LEFT_OUT)
def test_a_value_that_cannot_be_used_costs_itself(box, link, kind, call):
    """The incident opens without it, and the log says which it was; its text, where a responder would miss it."""
    extra, label = LEFT_OUT[kind]
    link(box.url, extra=json.dumps(extra | {"slack_team_id": "T0TEAM"}))
    heard, _ = report(call=call)
    assert heard.texts(logging.ERROR) == []
    (incident,) = box.incidents
    # What the reader does not miss is not in the text: the incident is private, or real, all the same.
    assert (f"_Left out: {label}. " in incident["summary"]) is (label in {"Custom fields", "Roles"})
    assert label in heard.sole(logging.WARNING)
    (body,) = [r.body for r in box.requests if r.method == "POST"]
    assert body["slack_team_id"] == "T0TEAM"
    assert body["visibility"] == ("private" if "visibility" in extra else "public")
    assert body.get("mode") == ("real" if "mode" in extra else None)


@pytest.mark.parametrize("wrong", [{"team": {"value_txt": "x"}}, {"team": object()}, {"team": [b"x"]}, {5: "x"}])
def test_one_wrong_custom_field_costs_itself(box, link, wrong):
    """The others are sent."""
    link(box.url)
    good = {"01F00000000000000000000001": {"value_text": "kept"}}
    open_incident(dag_context(), custom_fields=wrong | good)
    body = next(r.body for r in box.requests if r.method == "POST")  # the sandbox does not know this field
    assert [entry["custom_field_id"] for entry in body["custom_field_entries"]] == list(good)


@EVERY_DOOR
@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.usefixtures("no_network")
def test_a_wrong_setting_is_one_line_that_names_it(connect, kind, call):
    """Whatever is wrong in the connection is named by the label of its form field, without its secrets."""
    fields, label = WRONG[kind]
    fields = {"host": "http://127.0.0.1:9", "password": API_KEY} | fields
    if isinstance(fields.get("extra"), dict):
        fields["extra"] = json.dumps(fields["extra"])
    connect(fields.pop("host"), **fields)
    check_wrong(call, label)


@EVERY_DOOR
@pytest.mark.usefixtures("no_network")
def test_everything_wrong_is_told_at_once(connect, monkeypatch, call):
    """One line names every wrong setting, wherever it is set."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__MODE", "tset")
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__EXCEPTION_DETAIL", "all")
    extra = {"visibility": "secret", "custom_fields": "{", "proxy": "ftp://x", "api_version": "v7"}
    connect("http://api.incident.io", conn_type="http", password="a b", extra=json.dumps(extra))
    check_wrong(call, "Connection type", "API key", "Base URL", "Proxy")
    heard, _ = report(call=call)
    told = " ".join(heard.texts(logging.WARNING))
    for label in (
        "Visibility", "Custom fields", "API version", "Mode ([incident_io] mode in airflow.cfg)",
        "Exception detail ([incident_io] exception_detail in airflow.cfg)",
    ):  # fmt: skip
        assert f"{label}: " in told
        with pytest.raises(ConfigurationError, match=re.escape(f"{label}: ")):
            IncidentHook().config()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls_box(tmp_path, authority, link):
    """Serve incident.io over TLS, which is where proxies matter, and define the connection to it."""
    pem, bundle = tmp_path / "server.pem", tmp_path / "ca.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    authority.cert_pem.write_to_path(str(bundle))
    with Sandbox(api_key=API_KEY, certfile=str(pem), keyfile=str(pem)) as box:
        link(box.url, extra=json.dumps({"ca_bundle": str(bundle)}))
        yield box
        PROCESS.reset()  # before the server ends: a TLS connection that is cut off is told of as a leak


ENVIRONMENTS = {
    "a scheme that nobody knows": {"HTTPS_PROXY": "socks9://127.0.0.1:9"},
    "a port that is no number": {"HTTPS_PROXY": "http://proxy.test:port"},
    "for all, and no number": {"ALL_PROXY": "http://proxy.test:port"},
    "in lower case": {"all_proxy": "socks9://127.0.0.1:9"},
    "for plain http alone": {"HTTP_PROXY": "http://proxy.test:port"},
    "a network without a proxy": {"NO_PROXY": "fe80::/10"},
    "an address of version 6": {"NO_PROXY": "localhost,[::1]"},
    "a SOCKS proxy that is for others": {"ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": "localhost,127.0.0.1"},
}


@pytest.mark.parametrize("kind", ENVIRONMENTS)
@EVERY_DOOR
def test_a_proxy_of_the_environment_that_cannot_be_read_costs_nothing(monkeypatch, tls_box, kind, call):
    """It is left aside, whichever it is, and the incident opens."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENTS[kind].items():
        monkeypatch.setenv(name, value)
    heard, _ = report(call=call)
    assert heard.texts(logging.ERROR) == []
    assert len(tls_box.incidents) == 1


@EVERY_DOOR
def test_the_environment_s_own_proxy_is_used_beside_one_that_cannot_be_read(monkeypatch, link, call):
    """What concerns the host is heeded, though httpx reads none of them."""
    refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    with Scripted([refused]) as proxy:
        monkeypatch.setenv("NO_PROXY", "fe80::/10")
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.removeprefix("http://"))
        monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "7")
        link("https://incident.test")
        report(call=call)
        assert proxy.arrivals[0].head.startswith(b"CONNECT incident.test:443")


def test_a_trust_store_of_the_environment_that_is_missing_is_named(monkeypatch, link):
    """SSL_CERT_FILE is read by the client too; file and variable are named."""
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such.pem")
    link("https://127.0.0.1:9")
    heard, _ = report()
    assert "CA bundle: SSL_CERT_FILE of the environment, '/no/such.pem', cannot be read" in heard.error


@pytest.mark.parametrize(
    "option", [o for o in options_in("argument") if not o.name.startswith("resolve")], ids=lambda option: option.name
)
@pytest.mark.parametrize(
    "value", [5, ["x"], object(), b"x", {1: 2}, "\ud800", "x" * 100_000], ids=lambda v: repr(v)[:12]
)
def test_an_argument_of_any_type_is_one_incident_or_one_line(box, link, option, value):
    """Nothing that is bound to the callback until the failure makes it raise, or loses the failure."""
    link(box.url)
    with listen() as heard:
        partial(open_incident, **{option.name: value})(task_context())
    assert len(box.incidents) == 1, heard.texts()
    for line in heard.texts():
        assert len(line.splitlines()) == 1


def test_a_fixed_mapping_is_a_mapping(box, link):
    """Arguments are typed as mappings; any mapping will do."""
    link(box.url)
    report(custom_fields=MappingProxyType({"no-such-field": {"value_text": "x"}}))
    assert "Left out: Custom fields" in box.incidents[-1]["summary"]


@pytest.mark.usefixtures("no_network")
def test_an_operator_with_a_wrong_setting_fails_for_good(connect):
    """A wrong setting is no reason to try again; the message names all of it."""
    from airflow_incident.airflow_bridge.compat import AirflowFailException

    connect("http://api.incident.io", password=API_KEY, extra=json.dumps({"mode": "tset"}))
    with pytest.raises(AirflowFailException, match=r"Base URL: .*Mode: .*Fix connection"):
        CreateIncidentOperator(task_id="tell").execute(task_context())


@pytest.mark.usefixtures("no_network")
def test_the_connection_test_tells_everything_that_is_wrong(connect):
    """Test connection lists all wrong fields."""
    connect("http://api.incident.io", password=None, extra=json.dumps({"mode": "tset"}))
    good, text = IncidentHook().test_connection()
    assert not good
    for label in ("API key: ", "Base URL: ", "Mode: "):
        assert label in text


# Nothing that must be asked for at parse time; what can be known without is in tests/test_arguments.py


def test_nothing_is_asked_for_before_the_first_failure(monkeypatch):
    """Calling a door in a DAG file reads no connection and looks up no name."""
    monkeypatch.setattr(BaseHook, "get_connection", lambda *_: pytest.fail("read at parse time"))
    with listen() as heard:
        open_incident(severity="no such", roles={"no such": "nobody"}, conn_id="no_such_connection")
        CreateIncidentOperator(task_id="tell", severity="no such", conn_id="no_such_connection")
    assert heard.ours == []


# Missing, and turned off


@EVERY_DOOR
@pytest.mark.usefixtures("no_network")
def test_a_missing_connection_is_one_warning_line(call):
    """A laptop without the connection hears of it once per failure, and how to add it."""
    heard, _ = report(call=call)
    line = heard.sole(logging.WARNING)
    assert "airflow connections add incident_io_default --conn-type incident_io" in line
    with pytest.raises(MissingConnectionError):
        IncidentHook().get_conn()


@EVERY_DOOR
@pytest.mark.parametrize("value", ["false", "False", "0", "off", "no"])
@pytest.mark.usefixtures("no_network")
def test_turned_off_is_one_info_line_and_no_request(monkeypatch, box, link, value, call):
    """`enabled = false` says so in one line and reads nothing else."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ENABLED", value)
    monkeypatch.setattr(BaseHook, "get_connection", lambda *_: pytest.fail("read although turned off"))
    link(box.url)
    heard, _ = report(call=call)
    assert "enabled is false" in heard.sole(logging.INFO)
    assert box.requests == []
    assert CreateIncidentOperator(task_id="tell").execute(task_context()) is None


# Other configuration must not lose a failure


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (BASE_URL, "http://["),
        (BASE_URL, "https://airflow.test:port/x"),
        ("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "soon"),
        ("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "-5"),
        ("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "nan"),
        ("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "inf"),
        (BATCH_TIMEOUT, "soon"),
        (BATCH_TIMEOUT, "0"),
        (BATCH_TIMEOUT, "-1"),
        (BATCH_TIMEOUT, "nan"),
        ("AIRFLOW__INCIDENT_IO__ENABLED", "perhaps"),
    ],
)
def test_other_configuration_does_not_lose_a_failure(monkeypatch, box, link, name, value):
    """What only bounds or decorates a report is not worth losing it for."""
    monkeypatch.setenv(name, value)
    link(box.url)
    with listen() as heard:
        for number in range(3):
            open_incident()(dag_context(f"run-{number}"))
    assert len(box.incidents) == 3, heard.texts()


def test_an_unnamed_installation_says_so(monkeypatch, box, link):
    """Two installations without a name would share keys: the log and the connection test say so."""
    monkeypatch.delenv("AIRFLOW__INCIDENT_IO__DEPLOYMENT")
    link(box.url)
    heard, _ = report()
    assert "has no name" in heard.sole(logging.WARNING)
    assert "has no name" not in box.requests[0].body["summary"], "it is nothing to a responder"
    assert box.requests[0].body["idempotency_key"].startswith("airflow/unnamed/dag/")
    assert "has no name" in IncidentHook().test_connection()[1]


# Precedence


def _cases():
    for name, option in OPTIONS.items():
        places = [place for place in PLACES if place in option.places]
        for size in range(len(places) + 1):
            for chosen in itertools.combinations(places, size):
                yield pytest.param(name, chosen, id=f"{name}-{'+'.join(chosen) or 'default'}")


def _set(name, chosen, monkeypatch, link, host, tmp_path):
    """Set an option in some places; return the arguments and the place that must win."""
    value = BY_PLACE[name]
    monkeypatch.delenv(f"AIRFLOW__INCIDENT_IO__{name.upper()}", raising=False)
    if "config" in chosen:
        monkeypatch.setenv(f"AIRFLOW__INCIDENT_IO__{name.upper()}", value["config"])
    if "route" in chosen:
        rules = tmp_path / "routes.yaml"
        rules.write_text(json.dumps([{"match": {"dag_id": "ord*"}, "set": {name: value["route"]}}]))
        monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ROUTES_FILE", str(rules))
    link(host, extra=json.dumps({name: value["connection"]} if "connection" in chosen else {}))
    return {name: value["argument"]} if "argument" in chosen else {}


def _read(value):
    return json.loads(value) if isinstance(value, str) and (value.startswith("{") or value.isdecimal()) else value


def test_every_option_has_a_case():
    """A new option is tested in each place that it has."""
    assert VALUES.keys() == OPTIONS.keys()
    for name, option in OPTIONS.items():
        for place, value in BY_PLACE[name].items():
            assert (place in option.places) == (value is not None), (name, place)


@pytest.mark.parametrize(("name", "chosen"), _cases())
def test_argument_before_rule_before_connection_before_configuration(monkeypatch, link, tmp_path, name, chosen):
    """Each option, in every combination of the places where it may be set."""
    arguments = _set(name, chosen, monkeypatch, link, "http://127.0.0.1:9", tmp_path)
    if name == "channel":
        link("http://127.0.0.1:9", extra={"alert_source_id": "source", "alert_source_token": "token-1"})
    airflow_config = read_airflow_config()
    config = read_config("", airflow_config, read_routed(dag_context(), airflow_config), **arguments)
    settings = config.settings
    assert config.origins.get(name) == next(iter(chosen), None)
    winner = BY_PLACE[name][chosen[0]] if chosen else OPTIONS[name].default
    expected = read_value(OPTIONS[name], winner) if chosen == ("config",) else _read(winner)
    assert getattr(settings, name) == expected


@pytest.mark.parametrize(("name", "chosen"), [c for c in _cases() if c.values[0] in SENT_AS])
def test_what_wins_is_what_is_sent(monkeypatch, link, tmp_path, name, chosen):
    """The body holds the option that goes first, from the callback and from the operator; unset fields are absent."""
    with Scripted() as server:
        arguments = _set(name, chosen, monkeypatch, link, server.url, tmp_path)
        report(task_context(), **arguments)
        context = task_context()
        context["ti"].xcom_push = lambda **_: None
        CreateIncidentOperator(task_id="tell", **arguments).execute(context)
        asyncio.run(open_incident(**arguments).async_notify(task_context()))
        bodies = [json.loads(arrival.body) for arrival in server.arrivals]
    assert len(bodies) == 3
    field = SENT_AS[name]
    sent = {json.dumps(body.get(field)) for body in bodies}
    assert len(sent) == 1
    (text,) = sent
    if not chosen:
        assert json.loads(text) == ("public" if name == "visibility" else None)
        assert all((field in body) == (name == "visibility") for body in bodies)
    else:
        value = _read(BY_PLACE[name][chosen[0]])
        word = next(iter(value)) if isinstance(value, dict) else value
        assert word in text


@pytest.mark.parametrize("place", ["connection", "config"])
def test_an_empty_value_is_not_set(monkeypatch, link, place):
    """A form sends empty fields; they hide nothing."""
    if place == "connection":
        monkeypatch.setenv("AIRFLOW__INCIDENT_IO__SEVERITY", "sev-config")
        link("http://127.0.0.1:9", extra=json.dumps({"severity": "", "mode": None, "custom_fields": ""}))
        settings = IncidentHook().config().settings
        assert (settings.severity, settings.mode, settings.custom_fields) == ("sev-config", None, None)
    else:
        monkeypatch.setenv("AIRFLOW__INCIDENT_IO__SEVERITY", "")
        link("http://127.0.0.1:9")
        assert IncidentHook().config().settings.severity is None


# Who sees the key


@EVERY_DOOR
def test_no_proxy_of_the_environment_sees_a_plain_request(monkeypatch, box, link, call):
    """Plain http leads to this machine only: no proxy is asked, whatever the environment or the connection says."""
    with Scripted() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        link(box.url, extra=json.dumps({"proxy": proxy.url}))
        report(call=call)
        assert IncidentHook().test_connection()[0]
        assert (proxy.connections, proxy.arrivals) == (0, [])
    assert len(box.incidents) == 1


@EVERY_DOOR
def test_a_proxy_sees_a_tunnel_and_never_the_key(monkeypatch, link, call):
    """Over TLS a proxy is asked for a tunnel, with its own password; the key goes through it or nowhere."""
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "7")
    refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    with Scripted([refused]) as proxy:
        link("https://incident.test", extra=json.dumps({"proxy": proxy.url.replace("//", f"//me:{SECRET}@")}))
        heard, _ = report(call=call)
        seen = b"".join(arrival.head + arrival.body for arrival in proxy.arrivals)
    assert seen.startswith(b"CONNECT incident.test:443")
    assert API_KEY.encode() not in seen
    assert "ProxyError" in heard.error
    assert SECRET not in heard.everything


def test_two_keys_at_one_address_are_kept_apart(connect, box):
    """Each connection speaks with its own key, however clients are kept."""
    connect(box.url, password=API_KEY)
    connect(box.url, conn_id="other", password="another-key")
    report()
    heard, _ = report(dag_context("run-2"), conn_id="other")
    assert "answered 401" in heard.error
    assert [request.headers["authorization"] for request in box.requests] == [f"Bearer {API_KEY}", "Bearer another-key"]


def test_a_changed_key_is_used_at_once(connect, box):
    """A key that was replaced in the connection works without a restart."""
    connect(box.url, password="old-key")
    first, _ = report()
    assert "answered 401" in first.error
    connect(box.url, password=API_KEY)
    report()
    assert len(box.incidents) == 1


@pytest.mark.parametrize("form", ["json", "uri", "generic", "schema and port", "path"])
def test_a_connection_is_read_in_every_form(monkeypatch, form):
    """However the connection is written, it leads to the same place."""
    with Scripted() as server:
        host = f"http://127.0.0.1:{server.port}"
        json_form = {"conn_type": "incident_io", "password": API_KEY, "host": host}
        value = {
            "json": json.dumps(json_form),
            "uri": f"incident-io://:{API_KEY}@http%3A%2F%2F127.0.0.1%3A{server.port}",
            "generic": json.dumps(json_form | {"conn_type": "generic"}),
            "schema and port": json.dumps(json_form | {"host": "127.0.0.1", "schema": "http", "port": server.port}),
            "path": json.dumps(json_form | {"host": f"{host}/gateway/"}),
        }[form]
        monkeypatch.setenv("AIRFLOW_CONN_INCIDENT_IO_DEFAULT", value)
        heard, _ = report()
        assert "INC-7" in heard.sole(logging.INFO)
        path = "/gateway/v1/incidents" if form == "path" else "/v1/incidents"
        assert server.arrivals[0].head.startswith(f"POST {path} HTTP/1.1".encode())


def test_an_option_whose_command_fails_costs_itself(monkeypatch, connected):
    """As on a host that lacks the file which it reads."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__PROXY_CMD", "false")
    heard, _ = report()
    assert len(connected.incidents) == 1
    assert [text for text in heard.texts() if "proxy cannot be read" in text] == heard.texts()


@pytest.mark.parametrize(("option", "taken"), [("visibility", "private"), ("mode", "real"), ("severity", None)])
def test_an_option_that_airflow_cannot_read_shows_an_incident_to_nobody_else(connected, option, taken):
    """As a per cent sign does in airflow.cfg."""
    if not conf.has_section("incident_io"):
        conf.add_section("incident_io")
    conf.set("incident_io", option, "%(nothing)s")
    try:
        heard, _ = report()
    finally:
        conf.remove_option("incident_io", option)
    assert f"[incident_io] {option} cannot be read" in heard.texts()[0]
    assert len(connected.incidents) == 1
    assert taken is None or connected.incidents[0][option] == taken


@pytest.mark.parametrize(
    "error", [RuntimeError("vault is sealed: token=s.abcdefgh"), SystemExit(1), OSError("no route")]
)
def test_a_secrets_backend_that_fails_is_one_error_line(monkeypatch, error):
    """What keeps the connection from being read is told, without its secrets, and never raised."""

    def fail(*_):
        raise error

    monkeypatch.setattr(BaseHook, "get_connection", fail)
    began = time.monotonic()
    heard, _ = report()
    assert type(error).__name__ in heard.error
    assert "s.abcdefgh" not in heard.error
    assert time.monotonic() - began < 10
