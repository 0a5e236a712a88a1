"""Alerts through the doors: firing once, resolved on recovery, kept in the journal like incidents, with their own token."""

import json
import logging
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_incident import open_incident, resolve_incident
from airflow_incident.cli import main as cli
from airflow_incident.core.failure import Failure
from airflow_incident.core.redaction import redact_secrets
from airflow_incident.core.settings import Settings
from airflow_incident.delivery import run as delivery
from airflow_incident.delivery.report import IncidentContent, prepare
from airflow_incident.delivery.run import flush
from airflow_incident.sandbox.fault import FaultProxy
from airflow_incident.sandbox.fault_answers import answer
from airflow_incident.sandbox.options import ALERT_SOURCE_ID, ALERT_SOURCE_TOKEN
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_all, check_request
from tests.doors import (
    API_KEY,
    Scripted,
    call_async,
    call_sync,
    dag_context,
    forget_process,
    listen,
    report,
    succeeded,
    task_context,
    use_store,
)
from tests.memory_store import Texts

AWAY = "http://127.0.0.1:9"
EVENTS = f"/v2/alert_events/http/{ALERT_SOURCE_ID}"
KEY = "airflow/tests/dag/orders/run/run-1"
SOURCE = {"alert_source_id": ALERT_SOURCE_ID, "alert_source_token": ALERT_SOURCE_TOKEN}
EVERY_DOOR = pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
WITH_OR_WITHOUT_JOURNAL = pytest.mark.parametrize("kept", [True, False], ids=["journalled", "straight"])


@pytest.fixture(scope="module")
def served():
    with Sandbox(api_key=API_KEY, rate_limit=1_000_000, alert_rate_limit=1_000_000) as box:
        yield box


@pytest.fixture
def box(served, source):
    """Serve an account with an alert source; whatever is sent to it, and answered, conforms to the document."""
    served.clear()
    served.store.alert_source_removed = False
    source(served.url)
    yield served
    check_secrets(served)
    check_all(served)


def check_secrets(box):
    """Fail unless each secret went to what it is for, and nowhere else."""
    for seen in box.requests:
        mine, other = (ALERT_SOURCE_TOKEN, API_KEY) if seen.path == EVENTS else (API_KEY, ALERT_SOURCE_TOKEN)
        assert seen.headers["authorization"] == f"Bearer {mine}"
        assert other not in f"{seen.headers} {seen.path} {seen.query} {seen.raw!r}"


@pytest.fixture
def source(connect):
    """Define a connection to an alert source; it has an API key only if it is given one."""

    def define(host, *, password="", **extra):
        connect(host, password=password, extra=json.dumps({name: x for name, x in (SOURCE | extra).items() if x}))

    return define


@pytest.fixture(autouse=True)
def journal(monkeypatch):
    """Turn the journal on, over a store in memory, in a process that has met no outage."""
    texts = Texts()
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    forget_process()
    return use_store(monkeypatch, texts)


@pytest.fixture
def brisk(brisk, monkeypatch):
    """Make callbacks short, too."""
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "8")


def run_context(run="run-1", *, clear=0, start_date=None, **more):
    """Build the context of a DAG's callback of a run that was cleared so many times."""
    dag_run = task_context(run, clear=clear)["dag_run"]
    dag_run.start_date = start_date
    return dag_context(run, dag_run=dag_run, **more)


def fire(context=None, call=call_sync, **options):
    """Fire an alert; return what was logged. Neither secret is in it."""
    heard, _ = report(run_context() if context is None else context, call, channel="alert", **options)
    assert ALERT_SOURCE_TOKEN not in heard.everything
    return heard


def recover(context, call=call_sync, **options):
    with listen() as heard:
        call(resolve_incident(channel="alert", **options), succeeded(context))
    assert ALERT_SOURCE_TOKEN not in heard.everything
    return heard


def events(box):
    """Return what the alert source was sent, each as (status, key)."""
    sent = [seen.body for seen in box.requests if seen.path == EVENTS]
    return [(body["status"], body["deduplication_key"]) for body in sent]


def states(journal):
    return [record.state for record in journal.records()]


# Firing


@EVERY_DOOR
@WITH_OR_WITHOUT_JOURNAL
def test_a_failure_is_an_alert_with_the_run_s_key(box, monkeypatch, kept, call):
    """The source answers 202; the route opens one incident. No API key is needed."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", str(kept))
    heard = fire(task_context(), call, severity="Major")
    (seen,) = box.requests
    assert (seen.path, seen.status) == (EVENTS, 202)
    assert events(box) == [("firing", KEY)]
    assert seen.body["title"] == "DAG orders failed: load (ValueError)"
    assert "boom" in seen.body["description"]
    told = seen.body["metadata"]
    assert {name: told[name] for name in ("dag_id", "run_id", "task_id", "deployment", "severity")} == {
        "dag_id": "orders",
        "run_id": "run-1",
        "task_id": "load",
        "deployment": "tests",
        "severity": "Major",
    }
    (incident,) = box.incidents_v2
    assert incident["creator"]["alert"]["title"] == "DAG orders failed: load (ValueError)"
    assert heard.texts(logging.INFO)[-1].startswith("incident.io: an alert is open for DAG orders, run run-1 (outcome")


@EVERY_DOOR
@WITH_OR_WITHOUT_JOURNAL
def test_what_fires_again_is_the_same_alert(box, monkeypatch, kept, call):
    """Every mapped task and the DAG, twice each: one key, one alert, one incident; with the journal, one event."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", str(kept))
    for _ in range(2):
        for index in range(3):
            fire(task_context(map_index=index), call)
        fire(call=call)
    assert set(events(box)) == {("firing", KEY)}
    assert len(events(box)) == (1 if kept else 8)
    assert len(box.alerts) == len(box.incidents) == 1


def test_each_run_has_an_alert_of_its_own(box):
    """Also a run that was cleared and fails again; and none is grouped, for the account has routes for that."""
    for number in range(12):
        fire(run_context(f"r{number}"))
    fire(run_context("r0", clear=1))
    assert len(box.alerts) == 13


def test_a_backfill_s_runs_are_alerts_of_their_own_beside_its_one_incident(box, source, journal):
    """What a DAG has open takes its incidents, not its alerts."""
    source(box.url, password=API_KEY)
    for run in ("r1", "r2"):
        context = run_context(run)
        context["dag_run"].run_type = "backfill"
        report(context)
        fire(context)
    assert [key.rpartition("/")[2] for _, key in events(box)] == ["r1", "r2"]
    assert sum(seen.path == "/v1/incidents" for seen in box.requests) == 1


@EVERY_DOOR
def test_both_channels_stand_side_by_side(box, source, journal, call):
    """Two callbacks in a list: one incident, one alert, two records, each with its own secret."""
    source(box.url, password=API_KEY)
    for _ in range(2):
        for callback in (open_incident(), open_incident(channel="alert")):
            call(callback, run_context())
    assert [(row.opened_by, row.request.get("idempotency_key")) for row in box.store.all()] == [
        ("v1", KEY),
        ("alert", None),
    ]
    assert events(box) == [("firing", KEY)]
    assert sorted((record.endpoint, record.state) for record in journal.records()) == [
        ("alert", "open"),
        ("v1", "open"),
    ]


# Resolved


@EVERY_DOOR
def test_a_cleared_run_that_succeeds_resolves_its_alert(box, journal, call):
    """Once; its route decides what becomes of the incident."""
    fire(call=call)
    heard = recover(run_context(clear=1), call)
    assert events(box) == [("firing", KEY), ("resolved", KEY)]
    assert [alert["status"] for alert in box.alerts] == ["resolved"]
    (text,) = heard.texts(logging.INFO)
    assert text.startswith("incident.io: the alert of DAG orders, run run-1, which recovered, is resolved (outcome")
    assert journal.records() == []
    recover(run_context(clear=1), call)
    assert len(events(box)) == 2


@EVERY_DOOR
@pytest.mark.parametrize(
    "context",
    [run_context("another", clear=1), task_context(clear=1)],
    ids=["other run", "a task"],
)
def test_nothing_else_resolves_it(box, context, call):
    """Another run's success, a task's at the run's scope."""
    fire()
    recover(context, call)
    assert events(box) == [("firing", KEY)]


@EVERY_DOOR
@pytest.mark.parametrize("context", [run_context(), dag_context()], ids=["same attempt", "no count"])
def test_a_run_that_got_over_its_failure_resolves_its_alert(box, context, call):
    """A handled failure; and a success of which Airflow 3.0 does not tell how often it was cleared."""
    fire(task_context())
    heard = recover(context, call)
    assert events(box) == [("firing", KEY), ("resolved", KEY)]
    assert "which succeeded all the same, is resolved" in heard.texts(logging.INFO)[0]


@EVERY_DOOR
@pytest.mark.parametrize("resolved", [True, False])
def test_a_run_that_is_made_again_fires_again(box, journal, call, resolved):
    """Within the hour in which the first record answers: what was resolved is a new alert, what is active stays one."""
    fire(run_context(start_date=datetime(2026, 1, 5, tzinfo=UTC)), call)
    if resolved:
        recover(run_context(clear=1), call)
    for _ in range(2):
        fire(run_context(start_date=datetime(2026, 1, 6, tzinfo=UTC)), call)
    assert [alert["status"] for alert in box.alerts] == (["resolved", "firing"] if resolved else ["firing"])
    assert [key for _, key in events(box)] == [KEY] * (3 if resolved else 2)
    recover(run_context(clear=1), call)
    assert {alert["status"] for alert in box.alerts} == {"resolved"}


def test_every_earlier_attempt_s_alert_is_resolved(box, journal):
    for clear in (0, 1):
        fire(run_context(clear=clear))
    recover(run_context(clear=2))
    assert events(box)[2:] == [("resolved", KEY), ("resolved", f"{KEY}/clear/1")]
    assert journal.records() == []


def test_a_task_s_alert_is_resolved_by_the_task(box):
    """At scope `task`."""
    fire(task_context(), scope="task")
    recover(task_context(clear=1), scope="task")
    assert events(box) == [("firing", f"{KEY}/task/load"), ("resolved", f"{KEY}/task/load")]


def test_each_channel_is_resolved_by_its_own_callback(box, source, journal):
    """The alert's leaves the incident to the other."""
    source(box.url, password=API_KEY)
    report(run_context())
    fire()
    recover(run_context(clear=1))
    assert [(record.endpoint, record.state) for record in journal.records()] == [("v1", "open")]
    call_sync(resolve_incident(), succeeded(run_context(clear=1)))
    assert journal.records() == []
    by_hand, by_route = box.incidents_v2
    assert by_hand["incident_status"]["category"] == "closed"
    assert by_route["incident_status"]["category"] == "triage"
    assert events(box) == [("firing", KEY), ("resolved", KEY)]


def test_a_run_that_recovers_before_its_alert_was_sent_is_dropped(box, source, journal, brisk):
    """Nothing fires any more, nothing needs to be resolved."""
    source(AWAY)
    fire()
    assert states(journal) == ["pending"]
    recover(run_context(clear=1))
    assert journal.records() == []
    source(box.url)
    flush()
    assert events(box) == []


@EVERY_DOOR
def test_a_resolution_that_meets_an_outage_is_made_by_a_flush(box, source, journal, brisk, call):
    """And counted there."""
    fire()
    source(AWAY)
    heard = recover(run_context(clear=1), call)
    assert "an alert of DAG orders, run run-1, which recovered, stays open for now" in heard.texts()[0]
    source(box.url)
    assert len(flush().recovered) == 1
    assert events(box) == [("firing", KEY), ("resolved", KEY)]
    assert journal.records() == []


# Settings


@EVERY_DOOR
@pytest.mark.parametrize(
    ("missing", "labels"),
    [
        (["alert_source_id"], ["Alert source ID: missing; it stands in the URL"]),
        (["alert_source_token"], ["Alert source token: missing; incident.io shows it"]),
        (list(SOURCE), ["Alert source ID: missing", "Alert source token: missing"]),
    ],
    ids=str,
)
def test_what_is_missing_is_one_line_with_the_form_s_labels(box, source, journal, call, missing, labels):
    """An API key does not stand in for it; the failure is kept until it is there; and the same for a resolution."""
    source(box.url, password=API_KEY, **dict.fromkeys(missing))
    line = fire(call=call).error
    assert line.startswith("incident.io: DAG orders, run run-1 is kept in the journal and waits until the connection")
    for label in labels:
        assert label in line
    assert box.requests == []
    flush()
    assert states(journal) == ["pending"]
    source(box.url, password=API_KEY)
    flush()
    assert (states(journal), len(box.alerts)) == (["open"], 1)
    source(box.url, password=API_KEY, **dict.fromkeys(missing))
    told = recover(run_context(clear=1), call).texts()
    assert all(label in " ".join(told) for label in labels)
    source(box.url, password=API_KEY)
    flush()
    assert [alert["status"] for alert in box.alerts] == ["resolved"]


def test_the_source_s_id_may_stand_in_airflow_cfg(box, source, monkeypatch):
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ALERT_SOURCE_ID", ALERT_SOURCE_ID)
    source(box.url, alert_source_id=None)
    fire()
    assert events(box) == [("firing", KEY)]


@EVERY_DOOR
def test_a_token_that_cannot_be_one_is_told_without_it(box, source, call):
    source(box.url, alert_source_token="tok en 123")
    line = fire(call=call).error
    assert "Alert source token: has spaces or characters that no key has; copy it once more" in line
    assert "tok en" not in line


# Trouble


@EVERY_DOOR
def test_a_source_that_is_gone_is_told_and_retried_once_it_is_back(box, journal, capsys, call):
    """404: it waits in the journal, and a flush delivers it."""
    box.alert_source_removed = True
    line = fire(call=call).error
    assert "DAG orders, run run-1 is kept in the journal" in line
    assert "NotFoundError" in line
    assert "Alert source ID" in line
    flush()
    assert states(journal) == ["pending"]
    box.store.alert_source_removed = False
    assert cli.main(["journal", "flush"]) == 0
    assert "an alert was opened for DAG orders, run run-1" in capsys.readouterr().out
    assert states(journal) == ["open"]
    assert len(box.alerts) == 1


@EVERY_DOOR
def test_a_wrong_token_is_told_as_such(box, source, call):
    """Not as a wrong API key."""
    source(box.url, alert_source_token="another")
    line = fire(call=call).error
    assert "AuthenticationError" in line
    assert "Alert source token" in line
    assert "API key" not in line.partition("To send it by hand")[0].partition("AuthenticationError")[2]
    box.store._requests.clear()  # it bears the wrong token, which check_secrets() would not know


@EVERY_DOOR
def test_at_the_limit_it_is_kept_until_the_date(source, journal, brisk, monkeypatch, call):
    """120 a minute for a source; a flush sends nothing before the answer's date, and incidents need not wait for it."""
    seconds = [datetime.now(UTC).timestamp()]
    with Sandbox(api_key=API_KEY, alert_rate_limit=1, clock=lambda: seconds[0]) as box:
        source(box.url, password=API_KEY)
        fire(run_context("r1"))
        heard = fire(run_context("r2"), call)
        assert "is kept in the journal and will be delivered: incident.io answered 429" in heard.sole(logging.WARNING)
        (waiting,) = (record for record in journal.records() if record.state == "pending")
        wait = waiting.due_at - datetime.now(UTC)
        assert timedelta(seconds=50) < wait <= timedelta(seconds=61)  # an answer's date has whole seconds
        assert len(flush().pending) == 1
        assert len(events(box)) == 2
        report(run_context("r2"))
        assert len(box.incidents) == 2  # r1's by the route, r2's own
        seconds[0] += 61
        monkeypatch.setattr(delivery, "utc_now", lambda: datetime.now(UTC) + timedelta(seconds=61))
        assert len(flush().opened) == 1
        assert [alert["status"] for alert in box.alerts] == ["firing", "firing"]
        check_secrets(box)
        check_all(box)


def test_two_hundred_failures_of_a_minute_are_all_alerts(source, journal, brisk, monkeypatch):
    """With the real limit: what is too much waits its turn, and nothing is lost or doubled."""
    seconds = [datetime.now(UTC).timestamp()]
    monkeypatch.setattr(delivery, "utc_now", lambda: datetime.fromtimestamp(seconds[0], UTC))
    monkeypatch.setattr("airflow_incident.api.exchange.ATTEMPTS", 1)  # no second of this machine is waited for
    with Sandbox(clock=lambda: seconds[0]) as box:
        source(box.url)
        for number in range(200):
            call_sync(open_incident(channel="alert"), run_context(f"r{number}"))
        assert states(journal).count("open") == 120
        flushes = 0
        while "pending" in states(journal):
            seconds[0] += 30
            flush()
            flushes += 1
            assert flushes < 10
        assert len(box.alerts) == 200
        check_all(box)


@EVERY_DOOR
@pytest.mark.parametrize("fault", ["refuse", "error-503", "drop-after-accept", "invalid-json"])
def test_an_outage_keeps_it(box, source, journal, brisk, fault, call):
    """The flush sends the same bytes: one alert, also if the first had arrived."""
    with FaultProxy(box.direct_port, fault) as wire:
        source(wire.url)
        heard = fire(call=call)
    assert states(journal) == ["pending"]
    assert "is kept in the journal" in heard.sole(logging.WARNING)
    source(box.url)
    assert len(flush().opened) == 1
    assert states(journal) == ["open"]
    assert len(box.alerts) == 1
    assert len({seen.raw for seen in box.requests}) == 1


@EVERY_DOOR
def test_without_a_journal_one_line_holds_the_event(source, box, monkeypatch, brisk, call):
    """Path and body, as the document has them; of the secrets, nothing."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "False")
    source(AWAY, password=API_KEY)
    line = fire(task_context(), call).error
    assert "NO alert was sent for DAG orders, run run-1" in line
    path, _, rest = line.partition("POST ")[2].partition(" ")
    event, _ = json.JSONDecoder().raw_decode(rest)
    assert path == EVENTS
    check_request("POST", path, event)
    assert (event["status"], event["deduplication_key"]) == ("firing", KEY)
    assert API_KEY not in line


def test_the_journal_tells_alerts_from_incidents(box, journal, capsys):
    """In its list, and nothing of the token is in it."""
    fire()
    assert cli.main(["journal", "list"]) == 0
    assert "(alert)" in capsys.readouterr().out
    assert all(ALERT_SOURCE_TOKEN not in text for text in journal.texts.values())


def test_an_alert_is_never_sent_without_its_deduplication_key(connect):
    """Without it each repeat would be an alert of its own."""
    refused = {"code": "invalid", "message": "is odd", "source": {"field": "deduplication_key"}}
    said = {"type": "validation_error", "status": 422, "request_id": "r", "errors": [refused]}
    with Scripted([answer(422, json.dumps(said).encode())]) as server:
        connect(server.url, extra={"alert_source_id": "01SOURCE", "alert_source_token": "t0ken"})
        heard, _ = report(channel="alert")
    assert len(server.arrivals) == 1
    assert "NO alert was sent" in heard.error


# Metadata


TABLE = Path(__file__).parents[1] / "docs" / "how-to" / "alerts.md"
WHEN = datetime(2026, 11, 23, 3, 12, 5, tzinfo=UTC)
EVERYTHING = Failure(
    dag_id="orders",
    run_id="run-1",
    level="task",
    task_id="load",
    map_index=0,
    clear_count=0,
    attempt=2,
    reason="timed_out",
    run_type="scheduled",
    exception_type="ValueError",
    failed_tasks=tuple(f"load[{n}]" for n in range(10_000)),
    owners=("data", "password=S3CRET"),
    tags=("tier-1",),
    run_url="https://airflow/run",
    log_url="https://airflow/log",
    map_names={"load[0]": "eu"},
    downstream=("mail",),
    downstream_count=12,
    assets=("postgres://me:S3CRET@db/orders",) * 30,
    runbook="https://wiki/orders",
    failures_before=0,
    bundle="dags@1",
    dag_version="7",
    **dict.fromkeys(("logical_date", "started_at", "failed_at", "last_success", "deadline_at"), WHEN),
)


def metadata_of(failure, **settings):
    told = prepare(
        failure,
        Settings(channel="alert", alert_source_id="x", **settings),
        IncidentContent(),
        deployment="prod",
        redact=redact_secrets,
    )
    return told.draft["metadata"]


def test_the_table_has_each_metadata_with_its_type():
    """Flat, and with the types that the document allows; nothing that the docs do not name."""
    told = metadata_of(EVERYTHING, severity="Major", mode="test")
    kinds = {"text": str, "number": int, "list of texts": list}
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| (text|number|list of texts) \|", TABLE.read_text(), re.MULTILINE)
    documented = {name.strip("` "): kinds[kind] for names, kind in rows for name in names.split(",")}
    assert {name: type(value) for name, value in told.items()} == documented
    assert all(isinstance(each, str) for value in told.values() if isinstance(value, list) for each in value)
    assert len(json.dumps(told)) < 3000


def test_metadata_keeps_zeros_and_leaves_out_what_is_unknown():
    """A route may ask for the first attempt; null is never valid."""
    told = metadata_of(EVERYTHING)
    assert (told["map_index"], told["clear_count"], told["failures_before"]) == (0, 0, 0)
    assert (told["failed_tasks"][-1], len(told["assets"])) == ("load[19]", 10)
    assert set(metadata_of(Failure("orders", "run-1"))) == {"source", "dag_id", "run_id", "clear_count", "deployment"}


def test_metadata_has_no_secrets():
    assert "S3CRET" not in json.dumps(metadata_of(EVERYTHING))
