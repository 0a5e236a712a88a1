"""No secret leaves: not in a link, a title, a record, a line of a log, a repr or a line to be sent by hand."""

import json
import logging

import pytest

from airflow_incident.airflow_bridge.config import AirflowConfig, read_airflow_config, read_config
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.delivery import run
from airflow_incident.sandbox.fault_answers import answer
from tests.airflow_versions import BASE_URL
from tests.doors import API_KEY, Scripted, by_hand, dag_context, listen, report, task_context
from tests.file_store import FileStore

SECRET = "hunter2Rakete77"
"""A password that occurs nowhere by chance, and no half of it does."""


def no_half_of_it(text):
    """Return whether not even five letters in a row of the secret are in a text."""
    return not any(SECRET[i : i + 5] in text for i in range(len(SECRET) - 4))


@pytest.fixture
def journal(monkeypatch, tmp_path):
    """Turn the journal on, in files."""
    store = FileStore(tmp_path)
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    monkeypatch.setattr(run, "Variables", lambda: store)
    PROCESS.reset()
    yield lambda: "\n".join(file.read_text() for file in tmp_path.iterdir())
    PROCESS.reset()


@pytest.mark.parametrize(
    ("base_url", "linked"),
    [
        (f"https://u:{SECRET}@af.example.com/af", "https://af.example.com/af/"),
        (f"https://{SECRET}@af.example.com:8443", "https://af.example.com:8443/"),
        (f"https://af.example.com/af?token={SECRET}#{SECRET}", "https://af.example.com/af/"),
        (f"https://u:1/{SECRET}@af.example.com", None),
        (f"https://u:{SECRET}/x@af.example.com", None),
    ],
)
def test_a_password_in_base_url_is_in_no_link(connected, monkeypatch, base_url, linked):
    """Links lead to the address without it; where nobody can say what is the address, there is none."""
    monkeypatch.setenv(BASE_URL, base_url)
    monkeypatch.delenv("AIRFLOW__INCIDENT_IO__DEPLOYMENT")
    heard, _ = report(task_context())
    (seen,) = connected.requests
    assert no_half_of_it(seen.raw.decode() + heard.everything)
    assert (linked is None and "](http" not in seen.body["summary"]) or f"({linked}dags/orders/" in seen.body["summary"]
    assert no_half_of_it(read_airflow_config().base_url or "")


def test_what_knows_secrets_has_none_in_its_repr(connect, monkeypatch):
    """Neither a connection's profile, nor what airflow.cfg says, which may hold a token and a proxy."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__PROXY", f"http://u:{SECRET}@proxy.example.com:3128")
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ALERT_SOURCE_TOKEN", SECRET)
    connect("https://api.incident.io", password=API_KEY, extra={"alert_source_token": SECRET})
    config = read_config("incident_io_default")
    for thing in (config, config.account, config.settings, config.airflow_config, AirflowConfig(config={"x": SECRET})):
        assert no_half_of_it(repr(thing))
        assert API_KEY not in repr(thing)


def test_a_proxy_s_password_is_known_by_itself(connect):
    """An error may say it without the address that it stands in, and as the password is or as a URL has it."""
    connect("https://api.incident.io", extra={"proxy": "http://u:swordfish%2Fsalt@proxy.example.com:3128"})
    redact = read_config("incident_io_default").redact
    assert redact("407 for <swordfish/salt> and <swordfish%2Fsalt>") == "407 for <***> and <***>"
    connect("https://api.incident.io", extra={"proxy": "http://u:a@proxy.example.com:3128"})
    assert read_config("incident_io_default").redact("a banana") == "a banana"


@pytest.mark.parametrize("length", range(100, 152, 3))
def test_a_title_has_no_half_of_a_secret(connected, length):
    """It is redacted before it is cut."""
    report(dag_context(), name="x" * length + f" password={SECRET}", summary=f"--token {SECRET}")
    (seen,) = connected.requests
    assert no_half_of_it(seen.raw.decode())


@pytest.mark.parametrize("length", range(460, 502, 3))
def test_a_message_has_no_half_of_a_secret(connected, length):
    """It is redacted before it is cut, in the incident and in the log."""
    heard, _ = report(task_context(exception=ValueError("x" * length + f" Command '['x', '--password', '{SECRET}']'")))
    (seen,) = connected.requests
    assert no_half_of_it(seen.raw.decode() + heard.everything)


def test_a_secret_in_a_run_s_reason_is_not_sent(connected):
    """Airflow has words of its own for it, today."""
    report(dag_context(reason=f"could not connect to postgresql://etl:{SECRET}@db/x"))
    (seen,) = connected.requests
    assert no_half_of_it(seen.raw.decode())
    assert "postgresql://etl:" in seen.body["summary"]


def test_a_secret_in_a_broken_template_s_error_is_not_sent(connected):
    """The note in the incident, and the line in the log, say which error it was."""
    heard, _ = report(dag_context(), name="{{ 1 / 0 if true }}{{ conf['" + f"password={SECRET}" + "'] }}{{ }}")
    (seen,) = connected.requests
    assert no_half_of_it(seen.raw.decode() + heard.everything)


def test_no_secret_is_in_an_alert(connect, sandbox):
    """Its title, its description and its metadata are redacted, too."""
    connect(sandbox.url, extra={"channel": "alert", "alert_source_id": "01SRC", "alert_source_token": "sandbox-key"})
    exception = RuntimeError(f'{{"password": "{SECRET}"}}')
    heard, _ = report(task_context(exception=exception), name=f"curl -u u:{SECRET} x", channel="alert")
    assert sandbox.requests
    assert no_half_of_it("".join(seen.raw.decode() for seen in sandbox.requests) + heard.everything)


def test_a_record_has_no_secret_of_an_error(connect, journal):
    """What a server, or a proxy before it, quotes is redacted before it is written down."""
    quoting = json.dumps({"type": "x", "errors": [{"message": f"cannot use {{'password': '{SECRET}'}}"}]}).encode()
    with Scripted([answer(422, quoting)]) as server:
        connect(server.url, password=API_KEY)
        heard, _ = report(task_context(exception=ValueError(f"mysqldump -u root -p{SECRET} db")))
    written = journal()
    assert "cannot use {'password': '***'}" in written
    assert no_half_of_it(written + heard.everything)


def test_a_line_to_be_sent_by_hand_is_json_without_a_secret(connect, monkeypatch):
    """Nothing could be written down, nothing sent: quotation marks stay where they were."""
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "7")
    connect("http://127.0.0.1:9")
    heard, _ = report(task_context(exception=ValueError(json.dumps({"a": json.dumps({"password": SECRET}), "b": 1}))))
    (line,) = [text for text in heard.texts() if "NO incident" in text]
    assert no_half_of_it(heard.everything)
    assert r'{"a": "{\"password\": \"***\"}", "b": 1}' in by_hand(line)["summary"]


def test_an_error_of_the_button_or_of_the_policy_has_no_secret(monkeypatch):
    """What a database's driver says may hold its address; it is redacted before it is cut."""
    from airflow_incident import plugin, policy
    from airflow_incident.plugin import RunLink

    class OddError(Exception):
        def __repr__(self):
            raise SystemExit(3)

    def fails(error):
        def fail(*_):
            raise error

        return fail

    said = OSError("x" * 270 + f" postgresql://airflow:{SECRET}@db/x")
    with listen() as heard:
        for error in (said, OddError()):
            monkeypatch.setattr(plugin, "read_page", fails(error))
            assert RunLink().get_link(None, ti_key=None) == ""
            monkeypatch.setattr(policy, "_zero_touch", fails(error))
            policy.dag_policy(None)
    assert len(heard.texts(logging.WARNING)) == 4
    assert "zero touch leaves DAGs as they are: OSError('xxx" in heard.everything
    assert no_half_of_it(heard.everything)
