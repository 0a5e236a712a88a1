"""Runs of one DAG that fail in the same second, where they are to have one incident: backfills, and scope `dag`."""

import functools
import os
import random
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_incident import open_incident, resolve_incident
from airflow_incident.core.key import dag_key
from airflow_incident.delivery import run
from airflow_incident.delivery.record import record_name
from airflow_incident.sandbox.fault import FaultProxy
from airflow_incident.sandbox.options import REPEATS
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_all
from tests.doors import at_once, forget_process, listen, use_store
from tests.file_store import FileStore, ended, flush_to, fork, report_of, report_to, wait_for
from tests.memory_store import Texts

# Python 3.12 warns of a fork beside threads; the sandbox's is idle then, and the child never uses it.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

DAY = datetime(2026, 11, 20, tzinfo=UTC)
DAGS_RECORD = record_name("orders", dag_key("tests", "orders"))


class Racing(Texts):
    """A store in which all threads look at what the DAG has open before any of them goes on."""

    def __init__(self, hands):
        super().__init__()
        self.together = threading.Barrier(hands)
        self.waited = {threading.main_thread()}

    def get(self, name):
        text = super().get(name)
        here = threading.current_thread()
        if name == DAGS_RECORD and here not in self.waited:
            self.waited.add(here)
            self.together.wait(5)
        return text


@pytest.fixture(autouse=True)
def _process(monkeypatch, brisk):
    """Turn the journal on, in a process that has met no outage and spent no time."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    forget_process()
    yield
    forget_process()


@pytest.fixture
def use(monkeypatch):
    """Let every door use a store."""
    return functools.partial(use_store, monkeypatch)


@pytest.fixture(params=REPEATS)
def box(request, connect, alone):
    with Sandbox(repeat=request.param) as box:
        connect(box.url)
        yield box


def context(number, run_type="backfill", clear=0, reason="task_failure"):
    run = SimpleNamespace(dag_id="orders", run_id=f"r{number}", clear_number=clear, run_type=run_type)
    run.logical_date = run.run_after = DAY + timedelta(days=number)
    return {"dag": SimpleNamespace(dag_id="orders"), "run_id": run.run_id, "reason": reason, "dag_run": run}


def fail_at_once(*contexts, **options):
    at_once([functools.partial(open_incident(**options), each) for each in contexts])


def succeed(number, run_type="backfill", clear=0, **options):
    resolve_incident(**options)(context(number, run_type, clear, reason="success"))


def categories(box):
    return [incident["incident_status"]["category"] for incident in box.incidents_v2]


@pytest.mark.parametrize(("run_type", "options"), [("backfill", {}), ("manual", {"scope": "dag"})])
def test_two_runs_that_fail_in_the_same_second_have_one_incident(box, use, run_type, options):
    """However incident.io answers the key that they share; the later run's recovery closes it, for both."""
    use(Racing(2))
    fail_at_once(context(1, run_type), context(2, run_type), **options)
    assert categories(box) == ["triage"]
    succeed(1, run_type, clear=1, **options)
    assert categories(box) == ["triage"]
    succeed(2, run_type, clear=1, **options)
    assert categories(box) == ["closed"]
    check_all(box)


@pytest.mark.parametrize("end", ["closed by a person", "recovered"])
def test_the_next_trouble_has_an_incident_of_its_own(connected, use, end):
    """Again one for all that fail together, and again after that."""
    use(Racing(3))
    for trouble in range(3):
        fail_at_once(*(context(10 * trouble + n) for n in range(3)))
        assert categories(connected) == ["closed"] * trouble + ["triage"]
        if end == "recovered":
            succeed(10 * trouble + 2, clear=1)
        else:
            connected.close(connected.incidents[-1]["id"])


def test_a_journal_that_has_forgotten_opens_one_all_the_same(connected, use):
    """The DAG's record was pruned or dropped: the key it would have used belongs to an old incident."""
    texts = use(Texts())
    open_incident()(context(1))
    connected.close(connected.incidents[0]["id"])
    texts.texts.clear()
    open_incident()(context(2))
    open_incident()(context(3))
    assert categories(connected) == ["closed", "triage"]


def test_what_nobody_can_tell_costs_no_failure(box, use):
    """The same, however incident.io answers a used key."""
    texts = use(Texts())
    open_incident()(context(1))
    box.close(box.incidents[0]["id"])
    texts.texts.clear()
    with listen() as heard:
        open_incident()(context(2))
    assert categories(box) == ["closed", "triage"]
    assert heard.texts() == []


def test_a_hundred_failures_of_an_outage_are_one_incident(sandbox, connect, use, monkeypatch):
    """Each waits with the key that all share."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__STORM_LIMIT", "0")
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__STORM_LIMIT_PER_DAG", "0")
    use(Texts())
    with FaultProxy(sandbox.direct_port, "refuse") as wire:
        connect(wire.url)
        for number in range(100):
            open_incident()(context(number))
    connect(sandbox.url)
    assert len(run.flush().opened) == 100
    assert categories(sandbox) == ["triage"]
    succeed(99, clear=1)
    assert categories(sandbox) == ["closed"]


def test_a_process_that_dies_before_it_says_what_the_dag_has_leaves_one_incident(tmp_path):
    """Its own record is open, the DAG's is not there: the next failure lands on the same incident, and says so."""
    store = FileStore(tmp_path)
    with Sandbox() as box:
        report_to(box.url, store, report_of("r1", run_type="backfill", logical_date=DAY))
        store.delete(record_name("orders", dag_key("tests", "orders", "c")))
        report_to(box.url, store, report_of("r2", run_type="backfill", logical_date=DAY + timedelta(days=1)))
        assert len(box.incidents) == 1
        (dags,) = [record for record in store.records() if record.is_dags]
        assert (dags.incident.reference, dags.run_id) == ("INC-1", "r2")


def test_processes_at_once_open_one_incident(tmp_path):
    """Eight backfill runs, eight times, in processes that share a journal; some are killed on their way."""
    folder = tmp_path / "journal"
    folder.mkdir()
    store = FileStore(folder)
    rng = random.Random(7)
    with Sandbox(rate_limit=1_000_000) as box:
        for trouble in range(8):
            gate = tmp_path / f"gate-{trouble}"

            def work(number, gate=gate, trouble=trouble):
                told = report_of(
                    f"r{trouble}-{number}", run_type="backfill", logical_date=DAY + timedelta(days=trouble)
                )
                while not gate.exists():
                    pass
                report_to(box.url, store, told)

            pids = [fork(functools.partial(work, number)) for number in range(8)]
            with ended(pids):
                gate.touch()
                for pid in pids[: trouble % 4]:
                    time.sleep(rng.uniform(0, 0.03))
                    os.kill(pid, signal.SIGKILL)
                ends = wait_for(*pids)
                assert set(ends[: trouble % 4]) <= {0, -signal.SIGKILL}
                assert ends[trouble % 4 :] == [0] * (8 - trouble % 4)
            flush_to(box.url, store)
            assert categories(box) == ["closed"] * trouble + ["triage"]
            box.close(box.incidents[-1]["id"])
