"""`airflow-incident doctor` names what keeps incidents from opening, and says what to do about it."""

import json
import subprocess
import sys
import time

import pytest
import trustme
from airflow.secrets import BaseSecretsBackend
from airflow.utils.session import create_session
from sqlalchemy import text

from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.cli import main as cli
from airflow_incident.sandbox.options import ALERT_SOURCE_ID, DEFAULT_ROLES
from airflow_incident.sandbox.server import Sandbox
from tests.airflow_versions import BASE_URL, PAGES
from tests.doors import API_KEY
from tests.journal_records import forget_all, keep


@pytest.fixture(autouse=True)
def _installed(airflow_db, monkeypatch, capsys, brisk):
    """Make a whole installation: named, with an address, an empty journal, and short pauses between attempts."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    monkeypatch.setenv(BASE_URL, "https://airflow.example.com")
    with capsys.disabled():  # the handlers that Airflow makes keep the stream that they find
        forget_all()
    yield
    forget_all()


@pytest.fixture
def doctor(capsys):
    """Run the command; return its exit code and, by what was looked at, all that is not ok."""

    def run(*arguments):
        code = cli.main(["doctor", *arguments])
        out, err = capsys.readouterr()
        assert API_KEY not in out + err
        assert max(map(len, out.splitlines())) <= 100 or "https://" in out
        return code, out

    return run


@pytest.fixture
def troubles(capsys):
    """Examine for a script; return the exit code and what is not ok, as (level, check) to its text and advice."""

    def run():
        code = cli.main(["doctor", "--json"])
        told = json.loads(capsys.readouterr().out)
        assert API_KEY not in str(told)
        assert code == (1 if told["counts"]["error"] else 0)
        bad = [finding for finding in told["findings"] if finding["level"] != "ok"]
        assert all(finding["advice"] for finding in bad)
        return code, {(f["level"], f["check"]): f"{f['text']} | {f['advice']}" for f in bad}

    return run


@pytest.fixture
def served():
    with Sandbox(api_key=API_KEY) as box:
        yield box


@pytest.fixture
def sole(troubles):
    """Return what is said of the one thing that is wrong."""

    def run(level, check):
        code, bad = troubles()
        assert list(bad) == [(level, check)]
        assert code == (1 if level == "error" else 0)
        return bad[level, check]

    return run


WHOLE = {
    "severity": "major",
    "incident_type": "Default",
    "custom_fields": {"Affected team": "Product"},
    "roles": {"Incident Lead": "bob@example.com"},
    "resolved_status": "Closed",
    "alert_source_id": ALERT_SOURCE_ID,
    "alert_source_token": "tok_9d1f77c3Xq",
}


def test_a_healthy_installation_is_all_ok(doctor, served, connect):
    """Each line is aligned, nothing is to be done, nothing is opened, and no secret is shown."""
    connect(served.url, password=API_KEY, extra=json.dumps(WHOLE))
    code, out = doctor()
    *lines, last = out.splitlines()
    assert (code, last) == (0, "All is well."), out
    assert {line[:9].strip() for line in lines} <= {"ok", ""}
    checks = [line[9:26].strip() for line in lines if line.startswith("ok")]
    assert checks == [
        "versions", "connection", "deployment", "base_url", "API key", "key roles", "clock", "severity", "incident_type",
        "custom_fields", "roles", "resolved_status", "api_version", "alert source", "zero touch", "journal", "journal",
        "watcher",
    ]  # fmt: skip
    assert WHOLE["alert_source_token"] not in out
    assert served.incidents == []
    assert {request.method for request in served.requests} == {"GET"}
    assert Variables().names("incident_io") == []


def test_no_connection(troubles):
    code, bad = troubles()
    assert (code, list(bad)) == (1, [("error", "connection")])
    assert (
        "is not defined, or not readable | Add it: airflow connections add incident_io_default"
        in bad["error", "connection"]
    )


def test_1_no_key(sole, served, connect):
    connect(served.url, password="")
    assert "API key: missing; create one in incident.io" in sole("error", "connection")


def test_2_a_wrong_key(sole, served, connect):
    connect(served.url, password="inc_wrong")
    told = sole("error", "API key")
    assert "answered 401" in told
    assert "| Put a valid API key into the connection's password." in told
    assert "inc_wrong" not in told


def test_3_a_role_is_missing(troubles, connect):
    """The one that is needed is an error, the others say what is lost."""
    with Sandbox(roles=("viewer",)) as box:
        connect(box.url)
        code, bad = troubles()
    assert code == 1
    assert "lacks the role 'incident creator'" in bad["error", "key roles"]
    assert "Settings > API keys" in bad["error", "key roles"]
    assert "'incident editor': there is no closing incidents" in bad["warning", "key roles"]


def test_names_cannot_be_looked_up_without_the_role(troubles, connect):
    with Sandbox(roles=("incident_creator", "incident_editor")) as box:
        connect(box.url, extra='{"severity": "Major"}')
        code, bad = troubles()
    assert code == 0
    assert "'viewer': there is no looking up names" in bad["warning", "key roles"]
    assert "could not be looked up (Severity in the connection)" in bad["warning", "severity"]


def test_4_an_unknown_severity(sole, served, connect):
    connect(served.url, password=API_KEY, extra='{"severity": "Gigantic"}')
    told = sole("error", "severity")
    assert "there is no severity 'Gigantic'; known: Minor, Major, Critical (Severity in the connection)" in told
    assert "| Incidents open without it. Use a known name" in told


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("severity", "01GW2G3V0S59R238FAHPDS1R66", "there is no severity '01GW2G3V0S59R238FAHPDS1R66'"),
        ("incident_type", "Odd", "there is no incident type 'Odd'"),
        ("custom_fields", '{"Odd": "x"}', "there is no custom field 'Odd'"),
        ("custom_fields", '{"Affected team": "Odd"}', "'Affected team' has no option 'Odd'"),
        ("roles", '{"Odd": "bob@example.com"}', "there is no role 'Odd'"),
        ("roles", '{"Incident Lead": "odd@example.com"}', "nobody is 'odd@example.com'"),
        ("resolved_status", "Odd", "'Odd' is not a status of this account"),
    ],
)
def test_whatever_is_named_in_airflow_cfg_is_looked_up(sole, served, connect, monkeypatch, option, value, said):
    """Names, IDs and people."""
    connect(served.url, password=API_KEY)
    monkeypatch.setenv(f"AIRFLOW__INCIDENT_IO__{option.upper()}", value)
    told = sole("error", option)
    assert said in told
    assert f"([incident_io] {option} in airflow.cfg)" in told


@pytest.fixture
def elsewhere(connect, monkeypatch):
    """Let incident.io be on another machine, which cannot open an address of this one."""
    monkeypatch.setattr("airflow_incident.cli.checks._account", lambda config: iter(()))
    connect("https://api.incident.io", password=API_KEY)


@pytest.mark.parametrize(("address", "why"), [("", "is not set"), ("http://localhost:8080", "only this machine knows")])
def test_5_no_base_url(troubles, elsewhere, monkeypatch, address, why):
    """Without a name two installations may share an incident; without an address there are no links."""
    monkeypatch.setenv(BASE_URL, address)
    monkeypatch.delenv("AIRFLOW__INCIDENT_IO__DEPLOYMENT")
    code, bad = troubles()
    assert (code, list(bad)) == (0, [("warning", "deployment"), ("warning", "base_url")])
    for told in bad.values():
        assert why in told
        assert f"| Set [{PAGES}] base_url" in told


def test_6_an_api_that_cannot_be_reached(sole, connect):
    connect("http://127.0.0.1:9")
    told = sole("error", "network")
    assert "http://127.0.0.1:9 cannot be reached: ConnectError" in told
    assert "| Check the base URL, DNS, proxy and CA bundle" in told


def test_7_a_bad_certificate(sole, connect, tmp_path):
    pem = tmp_path / "server.pem"
    pem.write_bytes(trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes())
    with Sandbox(api_key=API_KEY, certfile=str(pem), keyfile=str(pem)) as box:
        connect(box.url, password=API_KEY)
        told = sole("error", "certificate")
        assert box.requests == []
    assert "cannot prove who it is" in told
    assert "the connection's CA bundle" in told


@pytest.mark.parametrize(("off", "said"), [(3600, "60 minutes slow"), (-3600, "60 minutes fast")])
def test_8_a_clock_that_is_off_by_an_hour(sole, connect, off, said):
    with Sandbox(clock=lambda: time.time() + off) as box:
        connect(box.url)
        told = sole("error", "clock")
    assert f"this machine's clock is {said}: incidents tell wrong times | Set it by NTP" in told


def test_a_clock_that_is_off_by_a_minute_is_a_warning(sole, connect):
    with Sandbox(clock=lambda: time.time() - 60) as box:
        connect(box.url)
        assert "seconds fast" in sole("warning", "clock")


@pytest.fixture
def read_only(airflow_db):
    """Let Airflow's database refuse every new Variable."""
    with create_session() as session:
        session.execute(
            text("CREATE TRIGGER frozen BEFORE INSERT ON variable BEGIN SELECT RAISE(ABORT, 'readonly database'); END")
        )
    yield
    with create_session() as session:
        session.execute(text("DROP TRIGGER frozen"))


def test_9_a_store_that_is_read_only(sole, served, connect, read_only):
    connect(served.url, password=API_KEY)
    told = sole("error", "journal")
    assert "it cannot be written (" in told
    assert "readonly database" in told
    assert "| Run this where Airflow's database is, migrated and writable" in told


@pytest.mark.parametrize(
    ("choice", "level", "said"),
    [
        ("v1", "error", "v1, which incident.io no longer serves | Set api_version to auto or v2"),
        ("auto", "warning", "incident.io no longer serves v1, so v2 is spoken | Nothing breaks"),
    ],
)
def test_10_v1_is_removed(sole, connect, choice, level, said):
    with Sandbox(v1_removed=True) as box:
        connect(box.url, extra=json.dumps({"api_version": choice}))
        assert said in sole(level, "api_version")


def test_v2_does_without_v1(doctor, connect):
    with Sandbox(v1_removed=True, roles=DEFAULT_ROLES) as box:
        connect(box.url, extra='{"api_version": "v2"}')
        code, out = doctor()
    assert code == 0
    assert "v2; v1 is no longer served" in out


def test_every_wrong_field_is_told_at_once(doctor, connect):
    connect("http://api.example.com", password="", extra='{"visibility": "odd"}')
    code, out = doctor()
    assert code == 1
    assert [line[9:26].strip() for line in out.splitlines() if line.startswith("error")] == ["connection"] * 3
    assert out.splitlines()[-1] == "3 errors."


def test_what_turns_things_off_is_told(troubles, served, connect, monkeypatch):
    """Incidents, the journal, half an alert source, an incident type that hides incidents."""
    connect(served.url, password=API_KEY, extra='{"alert_source_id": "x", "incident_type": "Security"}')
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ENABLED", "False")
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "False")
    code, bad = troubles()
    assert code == 0
    assert list(bad) == [
        ("warning", "enabled"), ("warning", "incident_type"), ("warning", "alert source"), ("warning", "journal"),
    ]  # fmt: skip


class Backend(BaseSecretsBackend):
    """A secrets backend that knows every Variable and no connection."""

    def get_variable(self, key, *_, **__):
        return "something else"

    def get_connection(self, conn_id, *_, **__):
        return None


def test_what_stands_before_the_journal_is_told(troubles, served, connect, monkeypatch):
    """A secrets backend is asked first, and may answer with something else."""
    connect(served.url, password=API_KEY)
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", f"{__name__}.Backend")
    monkeypatch.setenv("AIRFLOW__SECRETS__USE_CACHE", "True")
    _, bad = troubles()
    assert f"[secrets] backend is {__name__}.Backend" in bad["warning", "journal"]
    assert "what is written is not what is read" in bad["error", "journal"]
    assert "variables_prefix" in bad["error", "journal"]


def test_what_was_refused_or_waits_is_told(sole, served, connect):
    connect(served.url, password=API_KEY)
    keep("r1", state="dead", error="422")
    assert "1 refused; fix the cause" in sole("warning", "journal")


def test_what_waits_is_not_hidden_beside_what_was_refused(doctor, served, connect):
    """Nor what is neither."""
    connect(served.url, password=API_KEY)
    keep("r1", state="dead", error="422"), keep("r2"), keep("r3"), keep("r4", state="open")
    out = " ".join(doctor()[1].split())
    assert "warning journal 2 waiting, 1 refused, 4 records in all -> 1 refused; fix the cause" in out


def test_the_worst_comes_first_and_a_hint_once(doctor, connect):
    """What has the same cure stands together, before the cure."""
    with Sandbox(roles=()) as box:
        connect(box.url)
        _, out = doctor()
    levels = [line.split()[0] for line in out.splitlines() if line and not line.startswith(" ")][:-1]
    assert levels == sorted(levels, key=["error", "warning", "ok"].index)
    assert levels.count("warning") > 1
    advice = [line.partition("-> ")[2] for line in out.splitlines() if "-> " in line]
    assert advice.count("Give it that role, unless you do without.") == 1
    assert len(advice) == len(set(advice))


def test_links_that_there_are_are_not_denied(doctor, served, connect, monkeypatch):
    """An address of this machine is of use to whoever reads a sandbox on it."""
    connect(served.url, password=API_KEY)
    monkeypatch.setenv(BASE_URL, "http://localhost:8080")
    out = " ".join(doctor()[1].split())
    assert "ok base_url incidents link to http://localhost:8080, which only this machine knows" in out
    assert "no links" not in out


def test_names_are_looked_up_at_the_same_time(doctor, served, connect, monkeypatch):
    """One after the other, ten answers of a third of a second would be more than three seconds."""
    from airflow_incident.api.client import Client

    send, asked = Client._send, []

    def late(self, request):
        asked.append(request)
        time.sleep(0.3)
        return send(self, request)

    monkeypatch.setattr(Client, "_send", late)
    connect(served.url, password=API_KEY, extra=json.dumps(WHOLE))
    began = time.perf_counter()
    assert doctor()[0] == 0
    took = time.perf_counter() - began
    assert len(asked) >= 7
    assert took < 0.3 * len(asked), f"{len(asked)} questions took {took:.1f} s"


def test_a_connection_that_is_not_ours_is_named(doctor, connect):
    connect("http://127.0.0.1:9", conn_id="other", conn_type="http")
    code, out = doctor("--conn-id", "other")
    assert code == 1
    assert "'other', Connection type: is 'http'; it must be 'incident_io'" in " ".join(out.split())


def test_without_airflow_it_is_one_clear_line():
    code = "import sys; sys.modules['airflow'] = None; from airflow_incident.cli.main import main; sys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("airflow-incident doctor: there is no module airflow")


SLIPS = {
    "a name in the extra": ({"severty": "Major"}, "connection", "'severty' in the connection's extra", "severity"),
    "an option that is not set there": (
        {"scope": "task"},
        "connection",
        "scope is set as an argument",
        "[incident_io]",
    ),
    "a name like nothing": ({"colour": "red"}, "connection", "'colour' in the connection's extra is unknown", "Remove"),
}


@pytest.mark.parametrize("kind", SLIPS)
def test_a_name_that_means_nothing_is_told_with_the_nearest_one(sole, served, connect, kind):
    """An extra's key that no option has is a slip, and nobody else would say a word."""
    extra, check, *words = SLIPS[kind]
    connect(served.url, password=API_KEY, extra=json.dumps(extra))
    told = sole("warning", check)
    for word in words:
        assert word.lower() in told.lower()


@pytest.mark.parametrize("place", ["environment", "file"])
def test_a_name_in_airflow_cfg_that_means_nothing_is_told(sole, served, connect, monkeypatch, request, place):
    """In the environment and in the file alike; an option's `_cmd` is known."""
    from airflow_incident.airflow_bridge.compat import conf

    connect(served.url, password=API_KEY)
    if place == "environment":
        monkeypatch.setenv("AIRFLOW__INCIDENT_IO__SEVERTY", "Major")
    else:
        conf.read_dict({"incident_io": {"severty": "Major"}})
        request.addfinalizer(lambda: conf.remove_option("incident_io", "severty"))
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__RESOLVED_STATUS_CMD", "echo Closed")
    told = sole("warning", "airflow.cfg")
    assert "[incident_io] severty is unknown and has no effect; did you mean severity?" in told


@pytest.mark.parametrize("place", ["connection", "airflow.cfg"])
def test_a_value_that_cannot_be_used_is_an_error_by_its_label(troubles, served, connect, monkeypatch, place):
    """Incidents open without it, which is worse than it looks, so it is no mere warning."""
    extra = {"visibility": "privat"} if place == "connection" else {}
    connect(served.url, password=API_KEY, extra=json.dumps(extra))
    if place == "airflow.cfg":
        monkeypatch.setenv("AIRFLOW__INCIDENT_IO__VISIBILITY", "privat")
    code, bad = troubles()
    assert code == 1
    told = bad["error", place]
    assert "Visibility" in told
    assert "taken as private" in told


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy", "ALL_PROXY"])
def test_a_proxy_variable_that_cannot_be_read_is_named(troubles, tmp_path, connect, monkeypatch, name):
    """It costs no failure, but somebody meant something by it."""
    for other in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "fe80::/10" if "NO" in name.upper() else "http://proxy.test:port")
    connect("https://127.0.0.1:9", password=API_KEY)
    _, bad = troubles()
    assert bad["warning", "proxy"].startswith(f"{name} cannot be read")


def test_a_connection_that_cannot_be_used_says_what_becomes_of_failures(troubles, connect):
    connect("http://api.incident.io", password=API_KEY)
    _, bad = troubles()
    assert "Failures are kept in the journal meanwhile" in bad["error", "connection"]


def test_a_type_that_airflow_did_not_know_is_told(sole, served, connect):
    """`airflow connections add` stores `generic` where this package is not installed."""
    connect(served.url, password=API_KEY, conn_type="generic")
    assert "Set its type to incident_io" in sole("warning", "connection")


def test_the_connection_test_names_slips_too(served, connect, monkeypatch):
    """The button is red for a setting that has no effect."""
    from airflow_incident import IncidentHook

    connect(served.url, password=API_KEY, extra=json.dumps({"severty": "Major", "mode": "tset"}))
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__STORM_LIMITS", "3")
    good, told = IncidentHook().test_connection()
    assert not good
    for words in ("Connected to incident.io", "did you mean severity?", "Mode: 'tset' is unknown", "storm_limits"):
        assert words in told
