"""Every mistake that people make: where it is told, in which words, and that no failure is lost by it.

It writes docs/reference/mistakes.md: WRITE_PAGES=1 python -m pytest tests/test_mistakes.py
"""

import json
import logging
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

from airflow_incident import IncidentNotifier
from airflow_incident.airflow_bridge.compat import BaseHook
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.cli import checks as doctor
from airflow_incident.delivery.outcome import clean
from airflow_incident.delivery.record import PREFIX
from airflow_incident.delivery.run import flush
from airflow_incident.errors import ConfigurationError
from airflow_incident.sandbox.options import ALERT_SOURCE_ID, ALERT_SOURCE_TOKEN
from airflow_incident.sandbox.server import Sandbox
from tests.airflow_versions import AIRFLOW, BASE_URL
from tests.doors import API_KEY, listen, task_context
from tests.journal_records import forget_all

HAS_PAGE = AIRFLOW >= (3, 3)
WRITES = bool(os.environ.get("WRITE_PAGES"))
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "mistakes.md"
HEAD = """# Mistakes

A mistake in an option may cost that option, or time, but never a failure. The tests make each of these mistakes, read the message, and let
a task fail.

*Reported by*: arguments are checked when the DAG file is parsed, so a wrong one is an import error of the DAG. The
connection and airflow.cfg are checked by `airflow-incident doctor` and the connection's Test button. What cannot be known
earlier is an error line in the log of the process that ran the callback.

*The incident*: **opened** at once, without what cannot be used; or **kept** in the journal, and delivered by the next
flush once the cause is fixed. An argument that is only known at the failure, in a deadline alert or a YAML file, is left
out, too.
"""
HTTPS = "https://api.incident.io"
UNKNOWN = "/etc/ssl/no-such.pem"


class Mistake(NamedTuple):
    """One mistake: how it is written, and what makes it; `{box}` is a sandbox, `{tls}` one that speaks TLS."""

    written: str
    becomes: str = "opened"
    argument: dict[str, Any] | None = None
    connection: dict[str, Any] | None = None
    extra: Any = None
    environment: dict[str, str] | None = None
    rules: str | None = None
    channel: str | None = None
    conn_id: str = "incident_io_default"
    raises: BaseException | None = None
    tls: bool = False
    log: bool = False
    """Whether it is told by the log alone, for nobody can know before."""


def argument(text: str, **given: Any) -> Mistake:
    return Mistake(f"`open_incident({text})`", argument=given)


def extra(text: str, value: Any, **more: Any) -> Mistake:
    return Mistake(f"extra `{text}`", extra=value, **more)


def config(name: str, value: str, **more: Any) -> Mistake:
    variable = f"AIRFLOW__INCIDENT_IO__{name.upper()}"
    return Mistake(f"`{variable}={value}`", environment={variable: value}, **more)


def rule(text: str, **more: Any) -> Mistake:
    return Mistake(f"rule `{text}`", rules=f"- {text}", **more)


MISTAKES: dict[str, list[Mistake]] = {
    "Arguments": [
        argument('severty="Major"', severty="Major"),
        argument('on_call="Bob"', on_call="Bob"),
        argument('scope="dags"', scope="dags"),
        argument('mode="prod"', mode="prod"),
        argument('visibility="secret"', visibility="secret"),
        argument('channel="alerts"', channel="alerts"),
        argument('exception_detail="full"', exception_detail="full"),
        argument('custom_fields="Affected team=Product"', custom_fields="Affected team=Product"),
        argument(
            'custom_fields={"Affected team": {"value": "Product"}}', custom_fields={"Affected team": {"value": "x"}}
        ),
        argument('roles=["bob"]', roles=["bob"]),
        argument('roles={"Incident Lead": ""}', roles={"Incident Lead": ""}),
        argument("severity=3", severity=3),
        argument("storm_limit=3", storm_limit=3),
    ],
    "Connection": [
        Mistake("no connection of that name", "kept", conn_id="incident_io_prod"),
        Mistake("no API key", "kept", connection={"password": None}),
        Mistake("API key `inc_abc def`", "kept", connection={"password": "inc_abc def"}),
        Mistake("an API key that is not known", "kept", connection={"password": "inc_another"}),
        Mistake("type `http`", "kept", connection={"conn_type": "http"}),
        Mistake("type `generic`", connection={"conn_type": "generic"}),
        Mistake("host `http://api.incident.io`", "kept", connection={"host": "http://api.incident.io"}),
        Mistake("host `ftp://api.incident.io`", "kept", connection={"host": "ftp://api.incident.io"}),
        Mistake("host `https://me:…@api.incident.io`", "kept", connection={"host": "https://me:pa55@api.incident.io"}),
        Mistake("host `https://api.incident.io:https`", "kept", connection={"host": f"{HTTPS}:https"}),
        Mistake("host `https://api incident.io`", "kept", connection={"host": "https://api incident.io"}),
        Mistake("host `https://api.incident.io/?key=1`", "kept", connection={"host": f"{HTTPS}/?key=1"}),
        Mistake("host with a path that is not served", "kept", connection={"host": "{box}/api"}),
        Mistake("a secrets backend that raises", "kept", raises=OSError("vault.example.com: connection refused")),
    ],
    "The connection's extra": [
        extra('{"severty": "Major"}', {"severty": "Major"}),
        extra('{"Severity": "Major"}', {"Severity": "Major"}),
        extra('{"colour": "red"}', {"colour": "red"}),
        extra('{"scope": "task"}', {"scope": "task"}),
        extra('{"severity": "Catastrophic"}', {"severity": "Catastrophic"}),
        extra('{"incident_type": "Outage"}', {"incident_type": "Outage"}),
        extra('{"mode": "tset"}', {"mode": "tset"}),
        extra('{"visibility": "privat"}', {"visibility": "privat"}),
        extra('{"api_version": "v3"}', {"api_version": "v3"}),
        extra('{"storm_limit": "lots"}', {"storm_limit": "lots"}),
        extra('{"custom_fields": "Affected team"}', {"custom_fields": "Affected team"}),
        extra('{"custom_fields": {"Afected team": "x"}}', {"custom_fields": {"Afected team": "x"}}),
        extra('{"custom_fields": {"Affected team": "x"}}', {"custom_fields": {"Affected team": "x"}}),
        extra('{"roles": "bob@example.com"}', {"roles": "bob@example.com"}),
        extra('{"roles": {"Boss": "bob@example.com"}}', {"roles": {"Boss": "bob@example.com"}}),
        extra('{"resolved_status": "Gone"}', {"resolved_status": "Gone"}),
        extra('["severity"]', ["severity"], becomes="kept"),
    ],
    "airflow.cfg and its environment": [
        config("severty", "Major"),
        config("status", "fixing"),
        config("storm_limit", "lots"),
        config("storm_limit_per_dag", "-1"),
        config("scope", "dags"),
        config("mode", "prod"),
        config("visibility", "hidden"),
        config("exception_detail", "all"),
        config("resolve", "never"),
        config("enabled", "perhaps"),
        config("journal", "maybe"),
        config("auto_open", "yes please"),
        config("severity", "Catastrophic"),
        config("roles", "bob"),
        config("proxy", "proxy.example.com:3128", becomes="kept", tls=True),
        config("ca_bundle", UNKNOWN, becomes="kept", tls=True, extra={}),
    ],
    "Proxies and certificates": [
        extra('{"proxy": "socks9://proxy"}', {"proxy": "socks9://proxy"}, becomes="kept", tls=True),
        extra('{"proxy": "http://["}', {"proxy": "http://["}, becomes="kept", tls=True),
        Mistake("`HTTPS_PROXY=http://proxy:port`", environment={"HTTPS_PROXY": "http://proxy:port"}, tls=True),
        Mistake("`ALL_PROXY=socks9://proxy`", environment={"ALL_PROXY": "socks9://proxy"}, tls=True),
        Mistake("`NO_PROXY=fe80::/10`", environment={"NO_PROXY": "fe80::/10"}, tls=True),
        Mistake("`NO_PROXY=localhost,[::1]`", environment={"NO_PROXY": "localhost,[::1]"}, tls=True),
        extra(f'{{"ca_bundle": "{UNKNOWN}"}}', {"ca_bundle": UNKNOWN}, becomes="kept", tls=True),
        extra('{"ca_bundle": "/etc/ssl"}', {"ca_bundle": "/etc/ssl"}, becomes="kept", tls=True),
        Mistake(f"`SSL_CERT_FILE={UNKNOWN}`", "kept", environment={"SSL_CERT_FILE": UNKNOWN}, tls=True, extra={}),
        Mistake("an authority that is not known here", "kept", tls=True, extra={}),
    ],
    "Rules": [
        Mistake(
            "a file of rules that is not there", environment={"AIRFLOW__INCIDENT_IO__ROUTES_FILE": "/etc/routes.yml"}
        ),
        Mistake("a file of rules that is no YAML", rules="- match: {tags: tier-1"),
        Mistake("a file of rules that is no list", rules="severity: Critical"),
        rule('{match: {tag: "x"}, set: {severity: Major}}'),
        rule("{match: {dag_id: 7}, set: {severity: Major}}"),
        rule("{set: {severty: Major}}"),
        rule("{set: {severity: 1}}"),
        rule("{set: {visibility: privat}}"),
        rule("{set: {enabled: nope}}"),
        rule("{set: {proxy: http://proxy}}"),
        rule("{match: {task_id: load}, set: {channel: alert}}"),
        rule("{set: {severity: Catastrophic}}"),
    ],
    "Alerts": [
        Mistake("no alert source", "kept", channel="alert", extra={}, log=True),
        Mistake("an alert source without its token", "kept", channel="alert", extra={"alert_source_id": "01"}),
        Mistake(
            "an alert source that is not there",
            "kept",
            channel="alert",
            extra={"alert_source_id": "01NOSUCH", "alert_source_token": ALERT_SOURCE_TOKEN},
            log=True,
        ),
        Mistake(
            "a token of another source",
            "kept",
            channel="alert",
            extra={"alert_source_id": ALERT_SOURCE_ID, "alert_source_token": "tok_another"},
            log=True,
        ),
    ],
}
ALL = [mistake for group in MISTAKES.values() for mistake in group]
SEEN: dict[str, tuple[str, str, str]] = {}
"""What was seen of each: where it is told, in which words, and what became of the failure."""


@pytest.fixture(autouse=True)
def _journal(airflow_db, monkeypatch, brisk, alone):
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    monkeypatch.setenv(BASE_URL, "https://airflow.example.com")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    PROCESS.reset()
    forget_all()
    yield
    forget_all()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def box():
    with Sandbox(api_key=API_KEY) as served:
        yield served


@pytest.fixture(scope="module")
def tls_box(authority, tmp_path_factory):
    pem = tmp_path_factory.mktemp("tls") / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    with Sandbox(api_key=API_KEY, certfile=str(pem), keyfile=str(pem)) as served:
        yield served

        PROCESS.reset()


@pytest.fixture
def made(monkeypatch, connect, box, tls_box, authority, tmp_path, airflow_home):
    """Make a mistake, or take it back; return the callback that a user would have."""
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))

    def make(mistake):
        server = tls_box if mistake.tls else box
        right = {"ca_bundle": str(bundle)} if mistake.tls and mistake.extra is None else {}
        given = right | mistake.extra if isinstance(mistake.extra, dict) else mistake.extra or right
        fields = {"host": server.url, "password": API_KEY, "extra": json.dumps(given)}
        fields |= {
            name: value and value.replace("{box}", server.url) for name, value in (mistake.connection or {}).items()
        }
        if mistake.conn_id == "incident_io_default":
            connect(**fields)
        for name, value in (mistake.environment or {}).items():
            monkeypatch.setenv(name, value)
        if mistake.rules is not None:
            monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ROUTES_FILE", "routes.yaml")
            (airflow_home / "routes.yaml").write_text(mistake.rules)
        if mistake.raises:
            monkeypatch.setattr(BaseHook, "get_connection", lambda *_: (_ for _ in ()).throw(mistake.raises))
        return server

    def mend(mistake):
        for name in mistake.environment or {}:
            monkeypatch.delenv(name)
        if mistake.raises:
            monkeypatch.undo()
            monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
        server = tls_box if mistake.tls else box
        source = {"alert_source_id": ALERT_SOURCE_ID, "alert_source_token": ALERT_SOURCE_TOKEN}
        well = {"ca_bundle": str(bundle)} | source
        connect(server.url, password=API_KEY, conn_id=mistake.conn_id, extra=json.dumps(well))
        PROCESS.reset()

    make.mend = mend
    return make


def failed(mistake):
    """Fail a task, with arguments that nobody could check before; return what is logged, and the outcome."""
    with listen() as heard:
        options = mistake.argument or {}
        options |= {"channel": mistake.channel} if mistake.channel else {}
        IncidentNotifier(task_context(), conn_id=mistake.conn_id, **options)
    (line,) = [text for text in heard.texts(logging.INFO) if "outcome=" in text]
    return heard, re.search(r"outcome=(\w+)", line)[1], line


def told(mistake, heard):
    """Return where the mistake is told, and in which words."""
    if mistake.argument:
        from airflow_incident import open_incident

        with pytest.raises(ConfigurationError) as raised:
            open_incident(**mistake.argument)
        return "DAG import error", str(raised.value)
    if not mistake.log:
        bad = [
            f for f in doctor.examine(mistake.conn_id) if f.level != "ok" and f.check not in {"journal", "alert source"}
        ]
        if mistake.channel == "alert":
            bad = [f for f in doctor.examine(mistake.conn_id) if f.check == "alert source"]
        if bad:
            return "doctor", " → ".join(filter(None, map(clean, (bad[0].text, bad[0].advice))))
    (line,) = heard.texts(logging.ERROR)
    return "the log", line.partition(" (outcome=")[0].removeprefix("incident.io: ")


@pytest.mark.parametrize("mistake", ALL, ids=[mistake.written for mistake in ALL])
def test_a_mistake_is_told_and_costs_no_failure(made, mistake, airflow_home):
    """It opens without what cannot be used, or is kept and delivered once the cause is fixed."""
    server = made(mistake)
    server.clear()
    heard, outcome, _ = failed(mistake)
    assert outcome == {"opened": "opened", "kept": "journalled"}[mistake.becomes], heard.texts()
    where, words = told(mistake, heard)
    assert API_KEY not in words
    words = words.replace(str(airflow_home), "/opt/airflow")
    SEEN[mistake.written] = (where, words, mistake.becomes)
    if HAS_PAGE and not WRITES:
        assert row(mistake) in PAGE.read_text().split("\n")
    things = "alerts" if mistake.channel == "alert" else "incidents"
    if mistake.becomes == "kept":
        assert len(Variables().names(PREFIX)) == 1
        assert getattr(server, things) == []
        made.mend(mistake)
        flush()
    assert len(getattr(server, things)) == 1


def test_there_are_at_least_sixty():
    assert len(ALL) >= 60
    assert len({mistake.written for mistake in ALL}) == len(ALL)


def row(mistake):
    where, words, becomes = SEEN[mistake.written]
    return f"{beginning(mistake)}{where} | {cell(words)} | {becomes} |"


def beginning(mistake):
    return f"| {cell(mistake.written)} | "


def page(line):
    yield HEAD
    for group, mistakes in MISTAKES.items():
        yield f"## {group}\n"
        yield "| mistake | reported by | message | the incident |\n|---|---|---|---|"
        for mistake in mistakes:
            yield line(mistake)
        yield ""


def cell(text):
    """Write a text that is the same on every machine, and stays in its cell."""
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8123", text)
    text = re.sub(r" \(_ssl\.c:\d+\)| \(request_id [^)]*\)", "", text)
    return text.replace("|", "\\|").replace("<", "&lt;")


@pytest.mark.skipif(not HAS_PAGE, reason="the page is of the newest Airflow")
def test_the_page_has_each_mistake_in_its_place():
    """What its row says is compared where the mistake is made, which may be in another process."""
    if WRITES:
        PAGE.write_text("\n".join(page(row)))
    starts = {beginning(mistake) for mistake in ALL}
    found = PAGE.read_text().split("\n")
    rows = {line: start for line in found for start in starts if line.startswith(start)}
    assert [rows.get(line, line) for line in found] == "\n".join(page(beginning)).split("\n")
