"""The watcher killed -9 before and after any step of a round: nothing is lost, and nothing doubled."""

import itertools
import os
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from airflow_incident.airflow_bridge import database as bridge
from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.delivery import run as delivery
from airflow_incident.sandbox.server import Sandbox
from airflow_incident.watcher import round as rounds
from airflow_incident.watcher.state import NAME, State
from tests.airflow_versions import AIRFLOW
from tests.doors import forget_process
from tests.file_store import ended, fork, wait_for
from tests.journal_records import keep
from tests.watcher.installation import (
    Clock,
    break_file,
    clear_all,
    dag_run,
    delete,
    fail,
    insert,
    mend_file,
    one_round,
    succeed,
)

# Python 3.12 warns of a fork beside threads; the sandbox's is idle then, and the child never uses it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    pytest.mark.airflow,  # it needs no whole Airflow, but a minute of its own
]

KILLS = 200
BUNDLE = "dags-folder" if AIRFLOW >= (3, 0) else ""
STEPS = (
    *((Variables, name) for name in ("get", "set", "delete", "read_all")),
    *((bridge.Database, name) for name in ("texts", "decoded", "unfinished", "failed_since", "runs_with", "runs_of")),
    *((bridge.Database, name) for name in ("task_states", "broken_files", "import_error", "dags_of")),
    (rounds, "run_context"),
    (httpx.Client, "send"),
)
"""Every read and write of the database, and every request."""


@pytest.fixture
def busy(watched, connect, monkeypatch):
    """Serve an incident.io without limits."""
    for name in ("storm_limit", "storm_limit_per_dag"):
        monkeypatch.setenv(f"AIRFLOW__INCIDENT_IO__{name.upper()}", "0")
    with Sandbox(rate_limit=10_000_000) as box:
        connect(box.url)
        yield box


def count_steps(step):
    """Call something before and after each step."""

    def wrap(of, name):
        do = getattr(of, name)

        def counted(*args, **kwargs):
            step()
            try:
                return do(*args, **kwargs)
            finally:
                step()

        setattr(of, name, counted)

    for of, name in STEPS:
        wrap(of, name)


def prepare(number, clock):
    """Let everything differ that a round sets right; return the keys of all incidents, and of those to be closed."""
    clear_all()
    run = "{}-" + str(number)
    file = f"{run.format('mended')}.py"
    for name in ("by-hand", "deleted"):
        fail(run.format(name))
    break_file(file, BUNDLE)
    with bridge.database() as read:
        broken = dict.fromkeys(read.broken_files(), datetime.now(UTC) - timedelta(minutes=9))
    Variables().set(NAME, State(opens_since=datetime.now(UTC) - timedelta(hours=1), broken=broken).text())
    one_round(clock)
    succeed(run.format("by-hand"))
    delete("TaskInstance", run_id=run.format("deleted"))
    delete("DagRun", run_id=run.format("deleted"))
    mend_file(file)
    for name in ("lost", "lost-too"):
        fail(run.format(name))
    keep(run.format("waits"))
    insert("DagRun", dag_run(run.format("waits")))
    broken_file = f"{run.format('broken')}.py"
    break_file(broken_file, BUNDLE)
    with bridge.database() as read:
        broken = dict.fromkeys(read.broken_files(), datetime.now(UTC) - timedelta(minutes=9))
    Variables().set(NAME, State(opens_since=datetime.now(UTC) - timedelta(hours=1), broken=broken).text())
    return {run.format(name) for name in ("by-hand", "deleted", "mended")}, {
        run.format(name) for name in ("lost", "lost-too", "waits", "broken")
    }


def dying_round(clock, at):
    """Carry a round in a process that is killed at a step."""
    steps = itertools.count(1)
    count_steps(lambda: os.kill(os.getpid(), signal.SIGKILL) if next(steps) == at else None)
    one_round(clock)


def whole_round(clock, folder):
    """Count the steps of a whole round."""
    steps = itertools.count(1)
    last = folder / "steps"
    count_steps(lambda: last.write_text(str(next(steps))))
    one_round(clock)


def dispose():
    """Have no connection to the database, which a fork must not share."""
    from airflow import settings

    settings.engine.dispose()


def in_child(work):
    """Carry work in a process of its own; return how it ended."""
    dispose()
    forget_process()

    pid = fork(work)
    return wait_for(pid)[0]


def test_killed_at_any_step_nothing_is_lost_and_nothing_doubled(busy, tmp_path):
    """Each time one whole round makes all of it good: six incidents, three of them closed, each once."""
    clock = Clock()
    clock.passes(minutes=4)
    prepare("whole", clock)
    assert in_child(lambda: whole_round(clock, tmp_path)) == 0
    steps = int((tmp_path / "steps").read_text())
    assert steps > 80
    ends = Counter()
    for number in range(KILLS):
        closed, left_open = prepare(number, clock)
        code = in_child(lambda at=1 + number * steps // KILLS: dying_round(clock, at))
        ends[code] += 1
        one_round(clock)
        found = Counter()
        for row in busy.store.all():
            if f"-{number}" in (key := row.request["idempotency_key"].partition(".py")[0]) and key.endswith(
                f"-{number}"
            ):
                found[key.rpartition("/")[2]] += 1
                is_closed = row.shown("v2")["incident_status"]["category"] == "closed"
                assert is_closed == (key.rpartition("/")[2] in closed), f"kill {number}: {key}"
        assert found == Counter([*closed, *left_open]), f"kill {number}"
        assert {record.state for record in delivery.list_records()[0]} == {"open"}
        assert one_round(clock).differences == 0, f"kill {number}"
    print(f"\n{KILLS} kills at {steps} steps: {dict(ends)}")  # noqa: T201 -- figures worth seeing
    assert ends[-signal.SIGKILL] == KILLS


def test_two_watchers_at_once_open_one_incident_for_each_failure(busy):
    """Two processes that read the same database at the same moment: the same keys, the same records."""
    clock = Clock()
    clock.passes(minutes=4)
    prepare("two", clock)
    dispose()
    ready, go = os.pipe()
    both = [fork(lambda: (os.read(ready, 1), one_round(clock))) for _ in range(2)]
    with ended(both):
        os.write(go, b"12")
        assert wait_for(*both) == [0, 0]
    names = [row.request["idempotency_key"] for row in busy.store.all()]
    assert len(names) == len(set(names)) == 7
    assert [row.shown("v2")["incident_status"]["category"] for row in busy.store.all()].count("closed") == 3
    one_round(clock)
    assert one_round(clock).differences == 0
    assert len(busy.store.all()) == 7
