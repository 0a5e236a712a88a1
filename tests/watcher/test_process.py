"""The watcher as a process: it ends within a second whatever hangs, and says in one line what is away."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager

import pytest

from airflow_incident.sandbox.fault import FaultProxy
from tests.journal_records import keep
from tests.watcher.installation import dag_run, fail, insert, one_round

COMMAND = (sys.executable, "-m", "airflow_incident.cli.main", "watch")
STARTED = 120.0
"""Seconds that a process may take to start on a busy machine."""
ENDED = 4.0
"""Seconds until it must be gone: one, and what a busy machine takes to notice; what hangs would take longer."""


@contextmanager
def watching(*arguments, **settings):
    """Start a watcher; whatever fails, it is gone at the end."""
    environment = os.environ | {f"AIRFLOW__{name.upper()}": str(value) for name, value in settings.items()}
    command = [*COMMAND, *arguments]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def stop(process):
    """End it as a process manager does; return the seconds that takes, and all that it said."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 0, said
    return time.monotonic() - began, said


def until(condition):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < STARTED
        time.sleep(0.05)


def test_sigterm_ends_it_in_the_middle_of_a_database_that_does_not_answer(watched):
    pytest.importorskip("psycopg2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"postgresql+psycopg2://airflow@127.0.0.1:{port}/airflow"
        with watching(database__sql_alchemy_conn=url, database__sql_alchemy_conn_async="") as process:
            silent.settimeout(STARTED)
            with silent.accept()[0]:
                took, said = stop(process)
    assert took < ENDED
    assert "Traceback" not in said


@pytest.mark.parametrize("what", ["failed", "waits"])
def test_sigterm_ends_it_in_the_middle_of_an_api_that_does_not_answer(watched, connect, what):
    """In a report or in a flush; what was broken off is made good by the next watcher."""
    insert("DagRun", dag_run("waits", state="running"))
    fail() if what == "failed" else keep("waits")
    with FaultProxy(watched.port, "hang") as proxy:
        connect(proxy.url)
        with watching() as process:
            until(lambda: proxy.requests)
            took, said = stop(process)
    assert took < ENDED
    assert "Traceback" not in said
    connect(watched.url)
    one_round()
    assert len(watched.incidents) == 1
    assert one_round().differences == 0


@pytest.mark.parametrize(
    ("arguments", "output", "line"),
    [
        (["watch"], "stdout", "the watcher's round has not ended for 2 s; it ends, to be started again"),
        (["watch", "--once"], "stderr", "airflow-incident watch: the round has not ended for 2 s; it ends"),
    ],
)
def test_a_round_that_never_ends_ends_the_watcher(watched, connect, arguments, output, line):
    """A connection that has broken off without a word would keep it for ever; a process manager starts it again."""
    fail()
    code = f"""
from airflow_incident.core import timing
timing.STUCK_SECONDS, timing.LOOK_FOR_STUCK = 2.0, 0.1
from airflow_incident.cli import main
main.main({arguments})
"""
    with FaultProxy(watched.port, "hang") as proxy:
        connect(proxy.url)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=STARTED, check=False
        )
    assert done.returncode == 1
    assert line in getattr(done, output)
    assert "Traceback" not in done.stdout + done.stderr


def test_a_database_that_is_away_is_one_line_and_its_return_another(watched, airflow_home, tmp_path):
    database = tmp_path / "away" / "airflow.db"
    with watching("--interval", "1", database__sql_alchemy_conn=f"sqlite:///{database}") as process:
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
        reader.start()
        until(lambda: any("round failed" in line for line in lines))
        time.sleep(4)
        assert sum("round failed" in line for line in lines) == 1
        database.parent.mkdir()
        with closing(sqlite3.connect(airflow_home / "airflow.db")) as old, closing(sqlite3.connect(database)) as new:
            old.backup(new)
        until(lambda: any("succeed again" in line for line in lines))
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
        reader.join()
    ours = [line for line in lines if "incident.io" in line]
    assert len(ours) == 2
    assert "OperationalError: (sqlite3.OperationalError) unable to open database file; it tries again" in ours[0]
    assert not any("Traceback" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (["--interval", "0"], 2, "--interval must be from 1 to 3600 seconds"),
        (["--once"], 1, "the round failed: OperationalError: (sqlite3.OperationalError) unable to open database file"),
    ],
)
def test_what_cannot_be_done_is_one_clear_error(watched, tmp_path, arguments, status, error):
    away = f"sqlite:///{tmp_path}/away/airflow.db"
    told = os.environ | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": away}
    done = subprocess.run(
        [*COMMAND, *arguments], env=told, capture_output=True, text=True, timeout=STARTED, check=False
    )
    assert done.returncode == status
    assert error in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if "airflow-incident" in line]) == 1


def test_once_for_cron_carries_one_round_and_ends(watched):
    fail()
    done = subprocess.run([*COMMAND, "--once"], capture_output=True, text=True, timeout=STARTED, check=False)
    assert done.returncode == 0, done.stderr
    assert "watcher: failed runs without an incident: 1 (" in done.stdout
    assert len(watched.incidents) == 1
