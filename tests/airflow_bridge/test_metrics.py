"""Every outcome is one line that a machine can read, and one count, wherever it comes from."""

import contextlib
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from hypothesis import given
from hypothesis import strategies as st

from airflow_incident import CreateIncidentOperator, ResolveIncidentOperator, flush_dag, open_incident, resolve_incident
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.airflow_bridge.stats import PREFIX, SECONDS, log_event
from airflow_incident.core.text import log_line
from airflow_incident.delivery.outcome import OUTCOMES
from airflow_incident.errors import IncidentIoError, TransportError
from airflow_incident.sandbox.fault_answers import answer
from tests.airflow_versions import AIRFLOW
from tests.doors import API_KEY, CREATED, Scripted, call_async, call_sync, dag_context, listen, task_context
from tests.journal_records import forget_all

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "metrics.md"
AWAY = "http://127.0.0.1:9"
EVERY_DOOR = pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
REFUSED = answer(400, json.dumps({"type": "bad_request", "status": 400, "request_id": "req-9"}).encode())
PAIR = r'(\w+)=("(?:[^"\\]|\\.)*"|[^\s"=()\\]+)'
"""One fact of a line; `docs/how-to/metrics.md` has the same."""


def facts(line):
    """Read what a line tells a machine; nothing from a line without an outcome."""
    found = re.search(rf"\(outcome=\w+(?: {PAIR})*\)$", line)
    pairs = re.findall(PAIR, found[0]) if found else []
    return {name: json.loads(value) if value[0] == '"' else value for name, value in pairs}


def outcomes(heard):
    """List the outcomes that were told, in order, whoever's logger it was."""
    lines = [record.getMessage() for record in heard.records]
    return [said["outcome"] for said in map(facts, lines) if said]


@pytest.fixture(autouse=True)
def _journal(airflow_db, monkeypatch, brisk):
    """Turn the journal on, and begin with an empty one, in a process that has met no outage."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    PROCESS.reset()
    forget_all()


@pytest.fixture
def counts(monkeypatch):
    """Count what reaches Airflow's metrics."""
    counted = Counter()
    stats = SimpleNamespace(
        incr=lambda name, number: counted.update({name.removeprefix(PREFIX): number}),
        timing=lambda name, lasted: counted.update({name.removeprefix(PREFIX): 0 < lasted.total_seconds() < 30}),
    )
    monkeypatch.setattr("airflow_incident.airflow_bridge.compat.Stats", stats, raising=False)
    return counted


def fails(context=None, call=call_sync, **options):
    with listen() as heard:
        call(open_incident(**options), context or dag_context())
    return outcomes(heard)


def succeeds(context=None, call=call_sync, **options):
    with listen() as heard:
        call(resolve_incident(**options), context or succeeded())
    return outcomes(heard)


def succeeded(run_id="run-1"):
    run = SimpleNamespace(dag_id="orders", run_id=run_id, clear_number=1, run_type="manual")
    return {"dag": SimpleNamespace(dag_id="orders"), "dag_run": run, "run_id": run_id, "reason": "success"}


def flush():
    """Flush as the flush DAG's task does, which fails where something was refused."""
    with listen() as heard, contextlib.suppress(AirflowFailException):
        flush_dag._flush()
    return outcomes(heard)


def end_outage():

    PROCESS.reset()


# A failure


@EVERY_DOOR
def test_an_incident_is_opened_once_whoever_reports_it_again(connected, counts, call):
    """The task, the DAG, another mapped task: one opening, with its time; the rest is told apart."""
    assert fails(task_context(), call) == ["opened"]
    assert fails(dag_context(), call) == ["deduplicated"]
    assert fails(task_context(map_index=2), call) == ["deduplicated"]
    assert len(connected.incidents) == 1
    assert counts == {"opened": 1, "deduplicated": 2, SECONDS: 1}


def test_the_line_says_which_incident_where_and_how_long(connected):
    with listen() as heard:
        call_sync(open_incident(), task_context())
    (line,) = heard.texts(logging.INFO)
    (incident,) = connected.incidents
    assert line.startswith(
        f"incident.io: INC-1 {incident['permalink']} is open for DAG orders, run run-1 (outcome=opened"
    )
    said = facts(line)
    assert 0 < float(said.pop("seconds")) < 12
    assert said == {
        "outcome": "opened",
        "dag_id": "orders",
        "run_id": "run-1",
        "task": "load",
        "source": "task",
        "key": "airflow/tests/dag/orders/run/run-1",
        "incident": "INC-1",
        "link": incident["permalink"],
    }


def test_an_answer_that_it_is_open_already_is_no_opening(counts, connect, monkeypatch):
    """409, and an incident that somebody has closed."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "False")
    closed = CREATED.replace(b'"triage"', b'"closed"')
    with Scripted([answer(409, b'{"type": "conflict", "status": 409}'), answer(200, closed)]) as api:
        connect(api.url)
        assert fails(dag_context("r1")) == ["deduplicated"]
        assert fails(dag_context("r2")) == ["deduplicated"]
    assert counts == {"deduplicated": 2}


@EVERY_DOOR
def test_who_has_nobody_to_tell_is_suppressed(connect, sandbox, counts, monkeypatch, call):
    """No connection, another attempt to come, turned off; for a success, too."""
    assert fails(call=call) == ["suppressed"]
    assert succeeds(call=call) == ["suppressed"]
    connect(sandbox.url)
    lost_worker = task_context(max_tries=2)
    del lost_worker["exception"]
    assert fails(lost_worker, call) == ["suppressed"]
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ENABLED", "False")
    assert fails(call=call) == ["suppressed"]
    assert succeeds(call=call) == ["suppressed"]
    assert sandbox.requests == []
    assert counts == {"suppressed": 5}


@EVERY_DOOR
def test_what_is_kept_is_replayed_once(connect, sandbox, counts, call):
    """However often it was reported in the outage; by a flush."""
    connect(AWAY)
    assert fails(task_context(), call) == ["journalled"]
    assert fails(dag_context(), call) == ["deduplicated"]
    connect(sandbox.url)
    assert flush() == ["replayed"]
    assert flush() == []
    assert counts == {"journalled": 1, "deduplicated": 1, "replayed": 1}
    assert len(sandbox.incidents) == 1


def test_a_later_report_tells_what_it_delivers_as_well(connect, sandbox, counts):
    """Another run of the DAG finds it waiting; a line and a count for each."""
    connect(AWAY)
    fails(dag_context("r1"))
    end_outage()
    connect(sandbox.url)
    with listen() as heard:
        call_sync(open_incident(), dag_context("r2"))
    lines = [facts(text) for text in heard.texts(logging.INFO)]
    assert [(line["outcome"], line["run_id"]) for line in lines] == [("opened", "r2"), ("replayed", "r1")]
    assert counts == {"journalled": 1, "opened": 1, "replayed": 1, SECONDS: 1}
    assert len(sandbox.incidents) == 2


def test_the_failure_itself_reported_again_replays_it(connect, sandbox, counts):
    connect(AWAY)
    fails(task_context())
    end_outage()
    connect(sandbox.url)
    assert fails(dag_context()) == ["replayed"]
    assert counts == {"journalled": 1, "replayed": 1}


@EVERY_DOOR
def test_what_is_refused_for_good_is_dead_once(connect, counts, call):
    """The line has what incident.io's support asks for; a flush leaves it alone, a person's retry counts again."""
    with Scripted([REFUSED]) as api:
        connect(api.url)
        with listen() as heard:
            call(open_incident(), task_context())
        said = facts(heard.error)
        assert (said["outcome"], said["error"], said["request_id"]) == ("dead", "APIError", "req-9")
        assert fails(dag_context(), call) == ["deduplicated"]
        assert flush() == []
        assert counts == {"dead": 1, "deduplicated": 1}
        retry()
    assert counts == {"dead": 2, "deduplicated": 1}


def retry():
    from airflow_incident.delivery.run import flush

    flush(also_dead=True)


def test_what_waited_and_is_refused_then_is_dead(connect, counts):
    connect(AWAY)
    fails()
    with Scripted([REFUSED]) as api:
        connect(api.url)
        assert flush() == ["dead"]
    assert counts == {"journalled": 1, "dead": 1}


@EVERY_DOOR
def test_what_is_neither_sent_nor_kept_is_dropped(connect, counts, monkeypatch, call):
    """Without a journal; for want of a run; for a field that cannot be used."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "False")
    with Scripted([REFUSED]) as api:
        connect(api.url)
        assert fails(call=call) == ["dropped"]
    assert fails({"dag": SimpleNamespace(dag_id="orders")}, call) == ["dropped"]
    connect("ftp://example.com")
    assert fails(call=call) == ["dropped"]
    assert counts == {"dropped": 3}


def test_an_answer_that_comes_too_late_counts_once(connect, sandbox, counts, monkeypatch):
    """The thread that asked gave up; the other one's answer is nobody's outcome, and the flush's is the same incident."""
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "7")
    gone = threading.Event()

    def late(client):
        time.sleep(2)
        client.sendall(answer(200, CREATED))
        gone.set()

    with Scripted([late]) as api:
        connect(api.url)
        assert fails(task_context()) == ["journalled"]
        assert gone.wait(5)
    connect(sandbox.url)
    assert flush() == ["replayed"]
    assert counts == {"journalled": 1, "replayed": 1}


def test_a_storm_counts_each_incident_that_it_opens(connected, counts, monkeypatch):
    """The one that groups is one of them."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__STORM_LIMIT_PER_DAG", "1")
    said = [fails(dag_context(f"r{number}")) for number in range(4)]
    assert said == [["opened"], ["opened"], ["grouped"], ["grouped"]]
    assert counts["opened"] == len(connected.incidents) == 2


def test_a_storm_that_begins_in_an_outage_opens_later(connect, sandbox, counts, monkeypatch):
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__STORM_LIMIT_PER_DAG", "1")
    connect(AWAY)
    said = [fails(dag_context(f"r{number}")) for number in range(3)]
    assert said == [["journalled"], ["journalled"], ["grouped"]]
    connect(sandbox.url)
    assert flush() == ["replayed", "replayed"]
    assert counts["journalled"] == counts["replayed"] == len(sandbox.incidents) == 2


# A recovery


@EVERY_DOOR
def test_a_recovery_is_one_outcome(connect, sandbox, counts, call):
    """Closed; withdrawn before it was told; left open in an outage, and closed by the flush."""
    connect(sandbox.url)
    fails(dag_context("r1"), call)
    assert succeeds(succeeded("r1"), call) == ["recovered"]
    fails(dag_context("r2"), call)
    connect(AWAY)
    assert succeeds(succeeded("r2"), call) == ["left_open"]
    end_outage()
    fails(dag_context("r3"), call)
    assert succeeds(succeeded("r3"), call) == ["withdrawn"]
    connect(sandbox.url)
    assert flush() == ["recovered"]
    assert counts == {"opened": 2, SECONDS: 2, "journalled": 1, "recovered": 2, "left_open": 1, "withdrawn": 1}


def test_what_somebody_closed_before_is_over(connected, counts):
    fails()
    connected.store.move(connected.incidents[0]["id"], "closed")
    assert succeeds() == ["already_closed"]
    assert counts == {"opened": 1, SECONDS: 1, "already_closed": 1}


# Operators


def operate(operator, run_id="run-1", clear=0):
    context = task_context(run_id, clear=clear)
    context["ti"].xcom_push = lambda **_: None
    try:
        operator.execute(context)
    except IncidentIoError as error:
        return type(error)
    return None


def test_an_operator_tells_before_it_fails(connect, sandbox, counts, monkeypatch, capsys):
    """One outcome a step, in the task's own log, whether the task then fails or not."""

    def tells(operator, *of_run):
        error = operate(operator, *of_run)
        (outcome,) = re.findall(r"incident\.io: .*\(outcome=(\w+)", capsys.readouterr().out)
        return (outcome, error) if error else outcome

    create = CreateIncidentOperator(task_id="tell")
    close = ResolveIncidentOperator(task_id="close")
    connect(sandbox.url)
    assert tells(create) == "opened"
    assert tells(create) == "deduplicated"
    assert tells(close, "run-1", 1) == "recovered"
    assert tells(create, "r2") == "opened"
    (second,) = [incident["id"] for incident in sandbox.incidents if incident["reference"] == "INC-2"]
    other = ResolveIncidentOperator(task_id="one", incident_id=second)
    assert [tells(other, "r2"), tells(other, "r2")] == ["recovered", "already_closed"]
    connect(AWAY)
    assert tells(create, "r3") == ("journalled", TransportError)
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ENABLED", "False")
    assert tells(create) == tells(close) == "suppressed"
    assert counts == {
        "opened": 2,
        SECONDS: 2,
        "deduplicated": 1,
        "recovered": 2,
        "already_closed": 1,
        "journalled": 1,
        "suppressed": 2,
    }


# Lines


@given(st.dictionaries(st.from_regex(r"[a-z_]{3,9}", fullmatch=True), st.text(min_size=1), max_size=4))
def test_a_machine_reads_what_was_told(given_facts):
    """Whatever ids and answers hold: quotes, parentheses, what looks like a fact."""
    given_facts = {name: text for name, text in given_facts.items() if name not in {"outcome", "rest", "seconds"}}
    line = log_event("dead", logging.ERROR, "no (outcome=opened x=1)", str, seconds=0.3, **given_facts).line
    assert len(line.splitlines()) == 1
    expected = {name: log_line(text) for name, text in given_facts.items()}
    assert facts(line) == {"outcome": "dead", **expected, "seconds": "0.300"}


def test_no_secret_is_in_a_fact(connect, counts):
    """Each is redacted by itself, and no neighbour is swallowed."""
    with Scripted([answer(200, CREATED.replace(b"http://x/7", b"http://x/7?token=hunter22secret&x=1"))]) as api:
        connect(api.url, password=API_KEY)
        with listen() as heard:
            call_sync(open_incident(), dag_context(f"run of {API_KEY}"))
    assert "hunter22" not in heard.everything
    assert API_KEY not in heard.everything
    said = facts(heard.texts(logging.INFO)[-1])
    assert said["link"].startswith("http://x/7?token=***")
    assert (said["run_id"], said["incident"]) == ("run of ***", "INC-7")


# Airflow's metrics


@pytest.mark.parametrize("error", [OSError("no route"), SystemExit(1), TypeError("tags")])
@EVERY_DOOR
def test_metrics_that_are_broken_harm_nobody(connected, monkeypatch, call, error):
    """The incident opens, and nothing is said above debug."""

    def fail(*_: object):
        raise error

    monkeypatch.setattr(
        "airflow_incident.airflow_bridge.compat.Stats", SimpleNamespace(incr=fail, timing=fail), raising=False
    )
    with listen() as heard:
        call(open_incident(), dag_context())
    assert len(connected.incidents) == 1
    assert heard.texts(logging.WARNING) == []
    assert len(heard.texts(logging.INFO)) == 1


def test_the_page_has_every_outcome_as_it_is_told():
    """The table in the documents is the one in the code, and the timer and the pattern stand beside it."""
    text = PAGE.read_text()
    assert dict(re.findall(r"^\| `incident_io\.(\w+)` \| (\w.+) \|$", text, re.MULTILINE)) == dict(OUTCOMES)
    assert f"`{PREFIX}{SECONDS}`" in text
    assert PAIR in text


class Statsd(threading.Thread):
    """A statsd on 127.0.0.1 that sums up counters and lists timings."""

    def __init__(self):
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.counters, self.timings = Counter(), {}

    def run(self):
        while (packet := self._socket.recv(65536)) != b"over":
            for line in packet.decode().splitlines():
                name, _, rest = line.partition(":")
                value, _, kind = rest.partition("|")
                if kind == "c":
                    self.counters[name] += int(value)
                elif kind == "ms":
                    self.timings.setdefault(name, []).append(float(value))

    def stop(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.sendto(b"over", ("127.0.0.1", self.port))
        self.join(5)
        self._socket.close()


DAG = """
import os
from airflow.providers.common.compat.sdk import DAG, task
from airflow_incident import open_incident

with DAG("counted", default_args={"on_failure_callback": open_incident()}, on_failure_callback=open_incident()) as dag:
    @task
    def boom(number):
        raise ValueError(number)

    boom.expand(number=[1, 2, 3])

if __name__ == "__main__":
    print(dag.test().state)
    os.environ["AIRFLOW_CONN_INCIDENT_IO_DEFAULT"] = os.environ["AWAY"]
    os.environ["AIRFLOW__CORE__TASK_SUCCESS_OVERTIME"] = "7"
    print(dag.test().state)
"""


def test_a_statsd_hears_what_a_real_airflow_counts(airflow_db, connected):
    """Over UDP: three mapped tasks and their DAG fail, in an outage another run does, and the command replays that."""
    pytest.importorskip("statsd", reason="Airflow's statsd extra")
    statsd = Statsd()
    statsd.start()
    file = airflow_db / "dags" / "counted.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(DAG)
    metrics = {
        "STATSD_ON": "True",
        "STATSD_HOST": "127.0.0.1",
        "STATSD_PORT": str(statsd.port),
        "STATSD_PREFIX": "here",
    }
    metrics = {f"AIRFLOW__METRICS__{name}": value for name, value in metrics.items()}

    def run(*command, **variables):
        return subprocess.run(
            [sys.executable, *command],
            env=os.environ | metrics | variables,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    try:
        away = json.dumps({"conn_type": "incident_io", "password": "sandbox-key", "host": AWAY})
        assert run(file, AWAY=away).stdout.splitlines().count("failed") == 2
        flushed = run("-m", "airflow_incident.cli.main", "journal", "flush")
        assert "1 delivered" in flushed.stdout, flushed.stderr
    finally:
        statsd.stop()
    ours = {name.removeprefix("here.incident_io."): n for name, n in statsd.counters.items() if "incident_io" in name}
    replayed = {"replayed": 1} if AIRFLOW != (3, 2) else {}  # whose commands begin no metrics
    assert ours == {"opened": 1, "deduplicated": 6, "journalled": 1} | replayed
    (milliseconds,) = statsd.timings["here.incident_io.seconds"]
    assert 1 < milliseconds < 12_000
    assert len(connected.incidents) == 2
