"""`make demo` and `make up` tell the truth and leave nothing running."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from tools import demo
from tools.watch import Trouble

ROOT = Path(__file__).parents[2]
FAILED = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)
FAILURES = [
    demo.Failure("bad_csv", "demo-1", FAILED, ["check"]),
    demo.Failure("mapped_tasks", "demo-2", FAILED, ["fetch_orders"] * 4),
]
BACK = FAILED + timedelta(seconds=20)
AWAY = demo.Failure("mapped_tasks", "demo-3", FAILED, ["fetch_orders"] * 4, back=BACK)


def incident(number, run_id, *, failed=FAILED, created="2026-03-04T09:30:00.250Z"):
    return {
        "reference": f"INC-{number}",
        "name": "DAG failed",
        "permalink": f"http://127.0.0.1:8910/incidents/INC-{number}",
        "summary": f"- **Run:** {run_id}\n- **Failed at:** {failed:%Y-%m-%d %H:%M:%S} UTC",
        "created_at": created,
    }


def living(folder):
    """List the processes that work in a folder; all that the demo starts do."""
    processes = [each.info for each in psutil.process_iter(["pid", "cwd", "status"])]
    running = [each for each in processes if each["status"] != psutil.STATUS_ZOMBIE]
    return [each["pid"] for each in running if (each["cwd"] or "").startswith(str(folder))]


def gone(folder, *, seconds):
    """Return whether nothing lives in a folder any more, at the latest after some seconds."""
    deadline = time.monotonic() + seconds
    while living(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not living(folder)


@pytest.fixture
def start(tmp_path):
    """Start the demo in a checkout of its own, with an environment that would break it if it got through."""
    for name in ("airflow_incident", "dags", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name)
    unreadable = {"AIRFLOW_HOME": "/nonexistent", "AIRFLOW__CORE__EXECUTOR": "None", "http_proxy": "http://127.0.0.1:1"}
    started = []

    def start(*options, **streams):
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | streams
        command = [sys.executable, "-m", "tools.demo", *options]
        process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | unreadable, text=True, **streams)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        if process.stdout:
            process.stdout.close()
        process.wait()
    assert gone(tmp_path, seconds=15)


def await_line(process, wanted):
    assert any(wanted in line for line in process.stdout)


def test_one_incident_for_each_failed_run_is_what_it_wants():
    assert "exactly one" in demo.verdict(FAILURES, [incident(1, "demo-1"), incident(2, "demo-2")])


@pytest.mark.parametrize(
    ("incidents", "reason"),
    [
        ([incident(1, "demo-1")], "mapped_tasks, run demo-2, has 0 incidents instead of one"),
        (
            [incident(1, "demo-1"), incident(2, "demo-2"), incident(3, "demo-2")],
            "mapped_tasks, run demo-2, has 2 incidents",
        ),
        ([incident(1, "demo-1"), incident(2, "demo-2"), incident(3, "other")], "no failed run explains INC-3"),
    ],
)
def test_a_missing_second_or_foreign_incident_is_told(incidents, reason):
    with pytest.raises(Trouble, match=reason):
        demo.verdict(FAILURES, incidents)


def test_the_table_shows_of_each_run_its_incident_and_what_happened():
    late = incident(3, "demo-3", created="2026-03-04T09:30:21Z")
    assert list(demo.table([*FAILURES, AWAY], [incident(1, "demo-1"), late])) == [
        "DAG           run     incident  what happened",
        "bad_csv       demo-1  INC-1     check failed; open 0.25 s later",
        "mapped_tasks  demo-2  none      fetch_orders failed 4 times",
        "mapped_tasks  demo-3  INC-3     fetch_orders failed 4 times in an outage; delivered 1.00 s after its end",
    ]


SUMMARY = (
    r"""**Error:** `ValueError` in `check`
```
Traceback (most recent call last):
  File "bad\_csv.py", line 9
    raise ValueError(problems, """
    + "x" * 120
    + r""")
```

**Failed tasks:**
- `fetch`, [log](http://127.0.0.1:8080/log)
- DAG\_*two* <b>
  1. deep """
    + "word " * 30
    + """

***
See https://example.com
"""
)
READ = r"""INC-1  DAG orders failed: check (ValueError)
────────────────────────────────────────────

Error: ValueError in check

    Traceback (most recent call last):
      File "bad\_csv.py", line 9
        raise ValueError(problems, xxxxxxxxxxxxxxxxx
    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    xxxxxxx)

Failed tasks:

• fetch, log
• DAG_two <b>
  1. deep word word word word word word word word
     word word word word word word word word word
     word word word word word word word word word
     word word word word

See https://example.com"""


def test_an_incident_is_read_without_marks_and_addresses_and_no_line_is_cut():
    told = {"reference": "INC-1", "name": "DAG orders failed: check (ValueError)", "summary": SUMMARY}
    lines = list(demo.reading(told, 56))
    assert "\n".join(lines) == READ
    assert max(map(len, demo.reading(told, 1000))) <= demo.WIDEST


@pytest.mark.parametrize("failed", [FAILED - timedelta(minutes=1), BACK])
def test_what_came_late_with_another_time_is_told(failed):
    with pytest.raises(Trouble, match="INC-3 tells another time"):
        demo.verdict([AWAY], [incident(3, "demo-3", failed=failed)])


def test_a_trouble_shows_the_last_lines_of_its_log(tmp_path):
    log = tmp_path / "scheduler.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    assert str(Trouble("it broke", log)).startswith(f"it broke\nSee {log}")
    assert str(Trouble("it broke", log)).endswith("line 99")
    assert "line 80" not in str(Trouble("it broke", log))


STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setpgid(0, 0)
os.write(1, b"ready\\n")
time.sleep(99)
"""


def test_the_keeper_ends_what_ignores_a_signal_or_has_left_its_group(tmp_path):
    command = [sys.executable, "-c", STUBBORN]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == process.stdout.readline() == b"ready\n"
        assert len(living(tmp_path)) == 2
        keeper = [sys.executable, "-m", "tools.keeper"]
        subprocess.run(keeper, cwd=ROOT, input=b"%d %d\n" % (process.pid, signal.SIGTERM), timeout=30, check=True)
    assert living(tmp_path) == []


@pytest.mark.airflow
def test_the_demo_fails_dags_in_a_real_airflow_and_leaves_nothing_running(start, tmp_path):
    """Two while incident.io answers, one while it does not, and a file that nobody but the watcher tells of."""
    process = start()
    text, _ = process.communicate(timeout=200)
    assert process.returncode == 0, text
    found = re.findall(r"^(\w+) +(demo-\d)  (INC-\d) +\w+ failed", text, re.MULTILINE)
    assert found == [("bad_csv", "demo-1", "INC-1"), *(("mapped_tasks", f"demo-{n}", f"INC-{n}") for n in (2, 3))]
    first = text.partition("\nThis is what a responder reads")[2]
    assert re.search(r"^INC-1  .*bad_csv.*\n─+\n", first, re.MULTILINE)
    assert re.search(r"^    .*quantity is 0$", first, re.MULTILINE)
    delays = [float(seconds) for seconds in re.findall(r"open (.+) s later", text)]
    assert len(delays) == 3
    assert all(0 < delay < 10 for delay in delays[:2])
    assert re.search(r"^late_orders.py .* INC-4 .*closed when it was mended$", text, re.MULTILINE)
    assert re.search(r"^kept in the journal: airflow/demo/dag/mapped_tasks/run/demo-3 \(.*Connect", text, re.MULTILINE)
    assert re.search(r"in an outage; delivered \d+\.\d\d s after its end\n", text)
    assert "4 failures, 4 incidents: exactly one for each." in text
    assert "Enter ends" not in text  # nobody is there to press it
    assert text.endswith("Nothing is left running. To look around for longer: make up\n")
    assert living(tmp_path) == []


@pytest.mark.airflow
def test_whoever_sits_at_a_terminal_can_open_the_links_until_enter(start, tmp_path):
    """What was typed before the question is no answer to it."""
    keys, terminal = os.openpty()
    process = start(stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    os.write(keys, b"\n")
    text = ""
    while "Enter ends" not in text:
        text += os.read(keys, 4096).decode()
    links = re.findall(r"http://127.0.0.1:\d+(?= \()", text)
    assert [httpx.get(link, trust_env=False, follow_redirects=True).status_code for link in links] == [200, 200]
    os.write(keys, b"\n")
    with contextlib.suppress(OSError):  # so a terminal tells that nobody writes any more
        while more := os.read(keys, 4096).decode():
            text += more
    os.close(keys)
    assert process.wait(30) == 0, text
    assert "Nothing is left running." in text
    assert living(tmp_path) == []


@pytest.mark.airflow
def test_a_ctrl_c_while_a_dag_runs_leaves_nothing_running(start, tmp_path):
    process = start()
    await_line(process, "bad_csv, run demo-1: running")
    assert len(living(tmp_path)) > 5
    process.send_signal(signal.SIGINT)
    await_line(process, "nothing is left running")
    assert process.wait(30) == 130
    assert living(tmp_path) == []


@pytest.mark.airflow
def test_a_demo_that_is_killed_leaves_nothing_running(start, tmp_path):
    process = start("--stay")
    await_line(process, "Airflow is starting")
    assert len(living(tmp_path)) > 5
    process.kill()
    assert gone(tmp_path, seconds=15)
