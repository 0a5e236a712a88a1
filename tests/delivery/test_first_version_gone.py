"""v1 of the API ends in the middle of a run of failures: at once, or for some processes first. None lost, none doubled."""

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_incident import CreateIncidentOperator, IncidentHook
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.cli import main as cli
from airflow_incident.core.timing import SETTLE_SECONDS
from airflow_incident.delivery import run as delivery
from airflow_incident.delivery.ledger import Ledger
from airflow_incident.errors import AmbiguousDeliveryError, ConfigurationError
from airflow_incident.sandbox.fault import FaultProxy
from airflow_incident.sandbox.server import Sandbox
from tests.doors import call_async, call_sync, dag_context, report, task_context
from tests.file_store import FileStore, client_of, ended, flush_to, fork, report_of, report_to, wait_for
from tests.journal_records import forget_all
from tests.memory_store import Texts

# Python 3.12 warns of a fork beside threads; the sandbox's is idle then, and the child never uses it.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

EVERY_DOOR = pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
ALONE = pytest.mark.usefixtures("alone", "brisk")
PROCESSES = 4
_HOUR = timedelta(hours=1)
LEVELS = ({"level": "task", "task_id": "load", "exception": "no rows"}, {"level": "dag", "reason": "task_failure"})
NOT_FOUND = json.dumps({"type": "not_found", "status": 404, "request_id": "r", "errors": []}).encode()


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "journal"
    folder.mkdir()
    return FileStore(folder)


@pytest.fixture
def box():
    """Serve a sandbox whose v1 and v2 do not know one another's keys: the worst case."""
    with Sandbox(rate_limit=10_000_000, shared_keys=False) as box:
        yield box


@pytest.fixture
def in_memory(monkeypatch):
    """Turn the journal on, in memory, in a process that has met no outage and spent no time."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    PROCESS.reset()
    texts = Texts()
    monkeypatch.setattr(delivery, "Variables", lambda: texts)
    yield texts
    PROCESS.reset()


class _Browned(BaseHTTPRequestHandler):
    """Answers 404 for v1's incidents, once told to, and passes everything else on to the sandbox."""

    protocol_version = "HTTP/1.1"

    def _pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.gone.is_set() and self.path.partition("?")[0].startswith("/v1/incidents"):
            status, content = 404, NOT_FOUND
        else:
            upstream = HTTPConnection("127.0.0.1", self.server.upstream_port, timeout=10)
            with contextlib.closing(upstream):
                kept = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
                upstream.request(self.command, self.path, body=body or None, headers=kept)
                answer = upstream.getresponse()
                status, content = answer.status, answer.read()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _pass_on  # noqa: N815 -- http.server's own names

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def brown_out(box):
    """Lead to a sandbox through an address at which v1 is gone."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Browned)
    server.daemon_threads = True
    server.upstream_port = box.direct_port
    server.gone = threading.Event()
    server.gone.set()
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def opened(box):
    """Count the incidents by the key that opened them, whatever the version."""
    return Counter(row.request["idempotency_key"] for row in box.store.all())


def creates(box):
    """Count the creates by version and answer."""
    return Counter((r.path[1:3], r.status) for r in box.requests if r.method == "POST")


def work_off(place, url, store, runs):
    """Report the failures of some runs from one process, by task and DAG in turn; each process begins at another one.

    Two that tell of one failure in the milliseconds in which v1 ends may open it twice, as docs/how-to/api-versions.md says.
    """
    client = client_of(url)
    for number in ((turn + place * 2) % runs for turn in range(runs)):
        told = report_of(f"r{number}", **LEVELS[(number + place) % 2])
        gone = client.connector.directory.v1_gone
        report_to(url, store, told, client=client, v1_gone=gone, has_time=lambda: True)
    client.close()


# Among processes


def test_v1_ends_in_the_middle_of_sixty_failures(box, store):
    """Four processes tell of each run, a moment apart: one incident each, and what comes later goes straight to v2."""
    pids = [fork(lambda place=place: work_off(place, box.url, store, 60)) for place in range(PROCESSES)]
    with ended(pids):
        while len(box.incidents) < 20:
            time.sleep(0.001)
        box.store.v1_removed = True
        assert len(box.incidents) < 60, "not in the middle"
        assert wait_for(*pids) == [0] * PROCESSES
    flushed = flush_to(box.url, store)
    assert not flushed.pending
    assert not flushed.dead
    keys = opened(box)
    print(f"\n{creates(box)}")  # noqa: T201 -- figures worth seeing
    assert set(keys) == {report_of(f"r{number}").key for number in range(60)}
    assert set(keys.values()) == {1}
    assert {record.state for record in store.records()} == {"open"}
    by = Counter(row.opened_by for row in box.store.all())
    assert min(by["v1"], by["v2"]) > 0
    # Each process meets the end once, and perhaps once more for a run that another was just sending through v1.
    assert creates(box)["v1", 404] <= 2 * PROCESSES
    assert Ledger.read(store.get(Ledger.name("tests", "c"))).v1_gone_at


@ALONE
def test_who_reads_that_v1_is_gone_asks_v2_at_once(box, store):
    """A process that begins later makes one request."""
    box.store.v1_removed = True
    report_to(box.url, store, report_of("r1"))
    assert [(r.method, r.path) for r in box.requests] == [
        ("POST", "/v1/incidents"),
        ("GET", "/v1/incidents"),
        ("POST", "/v2/incidents"),
    ]
    time.sleep(SETTLE_SECONDS)  # a note of the end is not acted on at once
    pid = fork(lambda: report_to(box.url, store, report_of("r2")))
    with ended([pid]):
        assert wait_for(pid) == [0]
    assert [r.path for r in box.requests[3:]] == ["/v2/incidents"]


def test_a_brown_out_that_some_processes_see_doubles_nothing(box, store):
    """Half of them still have v1: whoever has lost it lets the others finish, and takes what they opened."""
    with brown_out(box) as browned:
        urls = [box.url, browned.url] * 2
        pids = [fork(lambda place=p, url=u: work_off(place, url, store, 12)) for p, u in enumerate(urls)]
        with ended(pids):
            assert wait_for(*pids) == [0] * len(urls)
        flushed = flush_to(browned.url, store)
    assert (flushed.pending, flushed.dead) == ([], [])
    keys = opened(box)
    print(f"\n{Counter(row.opened_by for row in box.store.all())}, {creates(box)}")  # noqa: T201 -- figures worth seeing
    assert set(keys) == {report_of(f"r{number}").key for number in range(12)}
    assert set(keys.values()) == {1}
    assert {record.state for record in store.records()} == {"open"}


@pytest.mark.parametrize("first", ["served", "gone"])
def test_the_same_run_through_both_within_a_second_is_one_incident(box, store, first):
    """Ten runs, each told at the same moment where v1 is served and where it is gone."""
    with brown_out(box) as browned:
        for number in range(4):
            urls = [box.url, browned.url] if first == "served" else [browned.url, box.url]
            told = report_of(f"r{number}", **LEVELS[number % 2])
            # Nobody has told the others: each of these runs meets the end of v1 anew.
            store.delete(Ledger.name("tests", "c"))
            pids = [fork(lambda url=url, told=told: report_to(url, store, told)) for url in urls]
            with ended(pids):
                assert wait_for(*pids) == [0, 0]
        assert not flush_to(browned.url, store).pending
    keys = opened(box)
    assert len(keys) == 4
    assert set(keys.values()) == {1}
    assert {record.state for record in store.records()} == {"open"}


def test_a_slow_create_of_another_process_is_left_to_it(box, store):
    """Found as written down by one that is still waiting, a failure is not sent through v2."""
    with FaultProxy(box.direct_port, "slow", delay=3.0) as slow, brown_out(box) as browned:
        pid = fork(lambda: report_to(slow.url, store, report_of("r1")))
        with ended([pid]):
            while not store.records():
                time.sleep(0.01)
            while not box.incidents:
                time.sleep(0.01)
            report_to(browned.url, store, report_of("r1", **LEVELS[0]))
            assert wait_for(pid) == [0]
        flush_to(browned.url, store)
    assert sum(opened(box).values()) == 1
    (record,) = store.records()
    assert record.state == "open"
    assert record.incident.reference == "INC-1"


# Accepted just before


@ALONE
def test_a_create_that_was_dropped_after_accepting_is_found_again(box, store):
    """It is never sent through v2; a flush finds it by its text."""
    with FaultProxy(box.direct_port, "drop-after-accept") as proxy:
        assert report_to(proxy.url, store, report_of("r1"), seconds=1.0).kind == "kept"
    box.store.v1_removed = True
    asked = len(box.requests)
    flushed = flush_to(box.url, store)
    (record,) = flushed.opened
    assert (record.state, record.incident.reference) == ("open", "INC-1")
    assert [(r.method, r.path) for r in box.requests[asked:]] == [
        ("POST", "/v1/incidents"),
        ("GET", "/v1/incidents"),
        ("GET", "/v2/incidents"),
    ]
    assert sum(opened(box).values()) == 1


@ALONE
@pytest.mark.parametrize("mode", ["test", None])
def test_dropped_and_gone_within_one_report(box, store, mode):
    """The retry meets a 404: what the first attempt opened is found at once, a test incident, too."""
    told = report_of("r1")
    told = replace(told, draft=told.draft | ({"mode": mode} if mode else {}))
    with FaultProxy(box.direct_port, "drop-after-accept", times=1) as proxy:
        box.store.listen(lambda _: setattr(box.store, "v1_removed", True))
        outcome = report_to(proxy.url, store, told)
    assert (outcome.kind, outcome.incident.reference) == ("open", "INC-1")
    assert sum(opened(box).values()) == 1


def test_killed_while_v1_answered_it_is_found_again(box, store):
    """A process that dies before the answer leaves a record that never changes its version."""
    with FaultProxy(box.direct_port, "slow", delay=30.0) as slow:
        pid = fork(lambda: report_to(slow.url, store, report_of("r1"), seconds=60.0))
        with ended([pid]):
            while not box.incidents:
                time.sleep(0.01)
    box.store.v1_removed = True
    for _ in range(2):
        # The DAG's callback comes later, in other words.
        report_to(box.url, store, report_of("r1", **LEVELS[0]))
        flush_to(box.url, store)
    (record,) = store.records()
    assert (record.state, record.incident.reference) == ("open", "INC-1")
    assert sum(opened(box).values()) == 1


@ALONE
def test_what_is_not_found_holds_up_nothing_and_waits_for_a_person(box, store):
    """Others behind it are delivered, and it says what to do."""
    with FaultProxy(box.direct_port, "hang") as proxy:
        report_to(proxy.url, store, report_of("lost"), seconds=0.5)
    for number in range(3):
        report_to(box.url, store, report_of(f"r{number}"), send=False)
    box.store.v1_removed = True
    flushed = flush_to(box.url, store)
    assert [record.run_id for record in flushed.opened] == ["r0", "r1", "r2"]
    (waiting,) = flushed.pending
    assert waiting.endpoint == "v1"
    assert "airflow-incident journal retry RECORD, which sends it through v2" in waiting.error
    outcome = report_to(box.url, store, report_of("lost"))
    assert isinstance(outcome.error, AmbiguousDeliveryError)
    (told,) = outcome.log_events(str, 0.5)
    assert "journal retry" in told.line
    assert set(opened(box)) == {report_of(f"r{number}").key for number in range(3)}


@ALONE
def test_a_person_sends_it_through_v2(box, connect, airflow_db, monkeypatch, capsys):
    """`airflow-incident journal retry <record>`, once it is known that it was not opened."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "7")
    PROCESS.reset()
    with capsys.disabled():
        forget_all()
    with FaultProxy(box.direct_port, "hang") as proxy:
        connect(proxy.url)
        report()
    box.store.v1_removed = True
    connect(box.url)
    assert cli.main(["journal", "flush"]) == 1
    assert "journal retry RECORD, which sends it through v2" in capsys.readouterr().out
    assert box.incidents == []
    ((record,), _) = delivery.list_records()
    assert cli.main(["journal", "retry", record.key]) == 0
    assert [row.opened_by for row in box.store.all()] == ["v2"]
    ((record,), _) = delivery.list_records()
    assert record.state == "open"
    forget_all()


# What was opened before


@ALONE
@pytest.mark.parametrize("reads_ledger", [True, False])
def test_what_v1_opened_is_not_opened_again_hours_later(box, store, monkeypatch, reads_ledger):
    """The DAG ends long after its task: how the incident stands is asked, and nothing is created."""
    report_to(box.url, store, report_of("r1", **LEVELS[0]))
    box.store.v1_removed = True
    if reads_ledger:
        report_to(box.url, store, report_of("r2"))
    monkeypatch.setattr("airflow_incident.delivery.record.SUPPRESS_FOR", -1 * _HOUR)
    outcome = report_to(box.url, store, report_of("r1", **LEVELS[1]))
    assert (outcome.kind, outcome.incident.reference) == ("open", "INC-1")
    box.store.move("INC-1", "closed")
    assert report_to(box.url, store, report_of("r1", **LEVELS[1])).kind == "closed"
    assert opened(box)[report_of("r1").key] == 1
    assert {record.state for record in store.records()} == {"open"}


@ALONE
def test_what_waited_for_v1_is_not_refused_once_it_is_known_to_be_gone(box, store):
    """Kept in an outage with a body for v1, and told again when others have met its end."""
    report_to("http://127.0.0.1:9", store, report_of("r1"), seconds=0.3)
    box.store.v1_removed = True
    report_to(box.url, store, report_of("r2"))
    assert report_to(box.url, store, report_of("r1")).kind == "open"
    assert Counter(row.opened_by for row in box.store.all()) == {"v2": 2}


def test_a_long_queue_is_flushed_without_a_pause_for_each(box, store, monkeypatch):
    """Fifty failures that waited through v1's end take seconds."""
    monkeypatch.setattr("airflow_incident.delivery.flush.YOUNG", 0 * _HOUR)
    for number in range(50):
        report_to(box.url, store, report_of(f"r{number}"), send=False)
    box.store.v1_removed = True
    began = time.monotonic()
    assert len(flush_to(box.url, store).opened) == 50
    assert time.monotonic() - began < 40
    assert set(opened(box).values()) == {1}


@ALONE
def test_at_scope_dag_what_v1_opened_takes_the_next_failures(box, store):
    """Whether it is still open, v2 tells."""
    first, second, third = (replace(report_of(f"r{number}"), scope="dag") for number in range(3))
    report_to(box.url, store, first)
    box.store.v1_removed = True
    assert report_to(box.url, store, second).kind == "joined"
    box.store.move("INC-1", "closed")
    assert report_to(box.url, store, third).kind == "open"
    first_id, of_dag = box.store.all()[0].incident["id"], "airflow/tests/dag/orders/connection/c"
    assert opened(box) == {f"{of_dag}/first": 1, f"{of_dag}/after/{first_id}": 1}


# Through the doors


@ALONE
@EVERY_DOOR
def test_a_callback_goes_on_in_v2(box, connect, in_memory, call):
    """One line as ever, and the next one asks v2 alone."""
    connect(box.url)
    box.store.v1_removed = True
    for run in ("run-1", "run-2", "run-3"):
        heard, _ = report(dag_context(run), call)
        assert "is open for DAG orders" in heard.sole(logging.INFO)
    assert creates(box) == {("v1", 404): 1, ("v2", 200): 3}
    assert {record.state for record in in_memory.records()} == {"open"}


@ALONE
@EVERY_DOOR
def test_without_a_journal_the_process_learns(box, connect, call):
    """The first failure costs three requests, the others one."""
    connect(box.url)
    box.store.v1_removed = True
    for run in ("run-1", "run-2", "run-3"):
        heard, _ = report(task_context(run), call)
        assert "is open for DAG orders" in heard.sole(logging.INFO)
    assert len(box.requests) == 5
    assert set(opened(box).values()) == {1}


@ALONE
@EVERY_DOOR
@pytest.mark.parametrize("journal", ["True", "False"])
def test_a_chosen_version_is_never_left(box, connect, in_memory, monkeypatch, call, journal):
    """`v1` means v1, and fails loudly; `v2` never asks v1."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", journal)
    box.store.v1_removed = True
    connect(box.url, extra={"api_version": "v2"})
    report(dag_context("run-1"), call)
    assert {r.path for r in box.requests} == {"/v2/incidents"}
    box.clear()
    connect(box.url, extra={"api_version": "v1"})
    heard, _ = report(dag_context("run-2"), call)
    assert "404" in heard.error
    assert {r.path for r in box.requests} == {"/v1/incidents"}
    assert box.incidents == []


@ALONE
@EVERY_DOOR
def test_without_a_journal_what_was_dropped_is_found_or_told(box, connect, call, monkeypatch):
    """Found by its text; where it cannot be, the line holds a body for v2 and says what to see to first."""
    connect(box.url)
    with FaultProxy(box.direct_port, "drop-after-accept", times=1) as proxy:
        connect(proxy.url)
        stop = box.store.listen(lambda _: setattr(box.store, "v1_removed", True))
        heard, _ = report(task_context(), call)
        stop()
    assert "INC-1" in heard.sole(logging.INFO)
    assert sum(opened(box).values()) == 1
    box.clear()
    box.store.v1_removed = True
    with FaultProxy(box.direct_port, "error-503", times=1) as proxy:
        connect(proxy.url)
        heard, _ = report(task_context(), call)
    assert "See whether incident.io has this incident" in heard.error
    assert "POST /v2/incidents {" in heard.error
    assert box.incidents == []


@ALONE
def test_a_hook_goes_on_in_v2(box, connect):
    """It returns the whole incident, whichever version opened it; an attempt that nobody can settle is an error."""
    connect(box.url)
    hook = IncidentHook()
    assert hook.create_incident(idempotency_key="k1", severity="Major").reference == "INC-1"
    box.store.v1_removed = True
    incident = hook.create_incident(idempotency_key="k2", severity="Major", mode="test", status="fixing")
    assert (incident.reference, incident.severity.name) == ("INC-2", "Major")
    assert asyncio.run(hook.acreate_incident(idempotency_key="k3")).reference == "INC-3"
    assert [row.opened_by for row in box.store.all()] == ["v1", "v2", "v2"]
    assert box.incidents_v2[1]["incident_status"]["name"] == "Fixing"
    with pytest.raises(ConfigurationError, match="cannot be said in v2"):
        hook.create_incident(idempotency_key="k4", source_message_channel_id="C1")


@ALONE
def test_a_hook_never_sends_through_v2_what_v1_may_have_opened(box, connect):
    box.store.v1_removed = True
    with FaultProxy(box.direct_port, "error-503", times=1) as proxy:
        connect(proxy.url)
        with pytest.raises(AmbiguousDeliveryError):
            IncidentHook().create_incident(idempotency_key="k1")
    assert box.incidents == []


@ALONE
def test_an_operator_goes_on_in_v2(box, connect, in_memory):
    """The step before and after: each its incident, and the same step again is the same incident."""
    connect(box.url)

    class Ti:
        task_id, dag_id, run_id = "tell", "orders", "run-1"
        xcom_push = staticmethod(lambda **_: None)

    def step(run, key):
        return CreateIncidentOperator(task_id="tell", key=key, severity="Major").execute(dag_context(run, ti=Ti()))

    first = step("run-1", "a")
    box.store.v1_removed = True
    second = step("run-1", "b")
    assert (first["reference"], second["reference"]) == ("INC-1", "INC-2")
    assert step("run-1", "a")["reference"] == "INC-1"
    assert step("run-1", "b")["reference"] == "INC-2"
    assert set(opened(box).values()) == {1}
    assert creates(box)["v1", 404] == 1
